// Drives every call of FireFly's Node SDK, but those of NOT_BUILT.
// usage: node drive.js URL-OF-A URL-OF-B KEY, where KEY is one of A's that no identity has yet.
// Prints one line for each step and ends with the number of those that failed; the last step fails when a call that
// the SDK's type declarations name was neither made nor is in NOT_BUILT.

const assert = require("assert");
const fs = require("fs");
const path = require("path");
const sdk = require("@hyperledger/firefly-sdk");

const NOT_BUILT = /Token|Contract/; // calls of tokens and contracts

const [hostA, hostB, key] = process.argv.slice(2);
const websocket = { reconnectDelay: 100, heartbeatInterval: 5000 };
const called = new Set();
const counted = (client) => new Proxy(client, {
  get(target, name) {
    const found = target[name];
    if (typeof found !== "function") return found;
    return (...given) => (called.add(name), found.apply(target, given));
  },
});
const a = counted(new sdk.default({ host: hostA, websocket }));
const b = counted(new sdk.default({ host: hostB, websocket }));
const run = Date.now().toString(36);
const confirm = { confirm: true };
const WAIT_MS = 20_000;
const POLL_MS = 50;
const absent = "00000000-0000-4000-8000-000000000000";

const pause = () => new Promise((done) => setTimeout(done, POLL_MS));

async function until(found, what) {
  for (const end = Date.now() + WAIT_MS; Date.now() < end; await pause()) {
    const got = await found();
    if (got) return got;
  }
  throw new Error(`still not: ${what}`);
}

async function text(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

// Hears what a subscription brings; the SDK acknowledges each after the callback.
function listen(what) {
  const seen = [];
  const socket = a.listen(what, async (_, event) => seen.push(event));
  const confirmed = () => seen.flatMap((event) => event.events ?? [event]).map((event) => event.message.header.tag);
  return { seen, socket, confirmed };
}

const say = (tag, options) => a.sendBroadcast({ header: { tag }, data: [{ value: tag }] }, options);
const names = (listed) => listed.map((each) => each.name);
const made = {}; // what later steps look at

const steps = {
  async status() {
    const status = await a.getStatus();
    assert.equal(status.org.name, "org_0");
    assert(status.org.registered && status.node.registered && status.multiparty.enabled);
  },
  async namespaces() {
    assert(names(await a.getNamespaces()).includes("default"));
    assert.equal((await a.getNamespace("default")).networkName, "default");
    assert.equal(await a.getNamespace("absent"), undefined);
  },
  async "organisations and nodes"() {
    made.org = await b.getOrganization("org_0");
    assert.equal(made.org.did, "did:firefly:org/org_0");
    assert.deepEqual(names(await a.getOrganizations({ name: "org_1" })), ["org_1"]);
    assert.equal(await a.getOrganization("absent"), undefined);
    assert((await a.getNodes()).length >= 2);
    assert.equal((await a.getNode("node_1")).name, "node_1");
  },
  async identities() {
    const desk = await a.createIdentity({ name: `desk${run}`, type: "custom", parent: made.org.id, key }, confirm);
    assert.equal(desk.did, `did:firefly:desk${run}`);
    const updated = await a.updateIdentity(desk.id, { description: "moved", profile: { room: 1 } }, confirm);
    assert.equal(updated.profile.room, 1);
    assert.equal((await a.getIdentity(desk.id)).description, "moved");
    assert.equal((await a.getIdentities({ type: "custom", name: desk.name }))[0].id, desk.id);
    await until(() => b.getIdentity(desk.id), "the identity is known to b");
    await assert.rejects(a.createIdentity({ name: "no parent", key }), sdk.FireFlyError);
  },
  async verifiers() {
    const type = "ethereum_address";
    const [verifier] = await a.getVerifiers(undefined, { identity: made.org.id });
    assert.equal(verifier.type, type);
    assert((await a.getVerifiers("default", { type })).length >= 2);
    const resolved = await a.resolveVerifier({ type, value: verifier.value });
    assert.deepEqual(resolved, { type, value: verifier.value });
  },
  async datatypes() {
    const value = { type: "object", properties: { id: { type: "string" } }, required: ["id"] };
    made.type = { name: "widget", version: run };
    const { id } = await a.createDatatype({ ...made.type, value }, confirm);
    assert.equal((await a.getDatatype("widget", run)).id, id);
    assert.equal((await a.getDatatypes({ version: run }))[0].id, id);
    assert.equal(await a.getDatatype("widget", "absent"), undefined);
  },
  async data() {
    made.data = await a.uploadData({ value: { id: "x" }, datatype: made.type });
    assert.deepEqual((await a.getData(made.data.id)).value, { id: "x" });
    assert.equal((await a.findData({ id: made.data.id })).length, 1);
    await assert.rejects(a.uploadData({ value: {}, datatype: made.type }), /FF10198/);
    const { id } = await a.uploadData({ value: 1 });
    await a.deleteData(id);
    assert.equal(await a.getData(id), undefined);
  },
  async blobs() {
    const file = { filename: "hello.txt", contentType: "text/plain" };
    made.blob = await a.uploadDataBlob(Buffer.from(`hello ${run}`), file);
    assert.equal(made.blob.blob.name, "hello.txt");
    assert.equal(await text(await a.getDataBlob(made.blob.id)), `hello ${run}`);
    const metadata = JSON.stringify({ colour: "red" });
    const other = await a.uploadDataBlob(Buffer.from("x"), file, { autometa: "false", metadata });
    assert.deepEqual(other.value, { colour: "red" });
    await assert.rejects(a.getDataBlob(absent), sdk.FireFlyError);
  },
  async publication() {
    const { id } = await a.uploadData({ value: `told to all ${run}` });
    assert((await a.publishData(id)).public);
    assert((await a.getData(id)).public);
    const published = await a.publishDataBlob(made.blob.id);
    assert(published.blob.public);
    assert.equal((await a.findData({ "blob.public": published.blob.public }))[0].id, made.blob.id);
    await assert.rejects(a.publishData(absent), sdk.FireFlyError);
  },
  async broadcast() {
    const message = {
      header: { topics: [`topic${run}`], tag: "one" },
      data: [{ id: made.data.id }, { id: made.blob.id }],
      idempotencyKey: `key${run}`,
    };
    made.message = await a.sendBroadcast(message, confirm);
    const { id } = made.message.header;
    await assert.rejects(a.sendBroadcast(message), sdk.FireFlyIdempotencyError);
    await until(async () => (await b.getMessage(id))?.state === "confirmed", "b confirms the broadcast");
    assert.equal((await b.getMessage(id)).hash, made.message.hash);
    assert.equal(await text(await b.getDataBlob(made.blob.id)), `hello ${run}`);
    assert.equal(await a.getMessage(absent), undefined);
  },
  async private() {
    const group = { name: `group${run}`, members: [{ identity: "org_1" }] };
    const header = { topics: [`topic${run}`], tag: "two" };
    const sent = await a.sendPrivateMessage({ header, data: [{ value: "quiet" }], group }, confirm);
    assert.equal((await a.getGroup(sent.header.group)).members.length, 2);
    const [there] = await until(async () => {
      const found = await b.getMessages({ id: sent.header.id, fetchdata: true });
      return found[0]?.state === "confirmed" && found;
    }, "b confirms the private message");
    assert.equal(there.data[0].value, "quiet");
    assert.equal((await a.getMessages({ topics: `topic${run}`, tag: "two" })).length, 1);
  },
  async "request and reply"() {
    const ear = b.listen({ filter: { events: "message_confirmed" } }, async (_, event) => {
      const { header } = event.message;
      if (header.tag !== `ask${run}`) return;
      const reply = { header: { tag: "answer", cid: header.id, group: header.group }, data: [{ value: 42 }] };
      await b.sendPrivateMessage(reply);
    });
    const group = { members: [{ identity: "org_1" }] };
    const header = { tag: `ask${run}` };
    await until(async () => {
      const { connections } = await (await fetch(`${hostB}/api/v1/websockets`)).json();
      return connections.some((each) => each.subscriptions.length);
    }, "b listens");
    const reply = await a.sendPrivateMessage({ header, data: [{ value: "how many?" }], group }, { requestReply: true });
    assert.deepEqual(reply.data.map((each) => each.value), [42]);
    ear.close();
  },
  async batches() {
    assert.equal((await a.getBatches({ id: made.message.batch })).length, 1);
    assert.equal((await a.getBatches({ "tx.id": made.message.txid }))[0].id, made.message.batch);
  },
  async transactions() {
    assert.equal((await a.getTransactions({ limit: 2 })).length, 2);
    assert.equal((await a.getTransaction(made.message.txid)).type, "batch_pin");
  },
  async operations() {
    const tx = made.message.txid;
    const done = await until(async () => {
      const found = await a.getOperations({ tx });
      return found.every((each) => each.status === "Succeeded") && found;
    }, "all operations have succeeded");
    const upload = done.find((each) => each.type === "sharedstorage_upload_batch");
    const again = await a.retryOperation(upload.id);
    assert.notEqual(again.id, upload.id);
    await until(async () => (await a.getOperation(again.id)).status === "Succeeded", "it is repeated");
    assert.equal((await a.getOperation(upload.id)).retry, again.id);
  },
  async "blockchain events"() {
    const [event] = await a.getBlockchainEvents({ "tx.id": made.message.txid });
    assert.equal(event.name, "BatchPin");
    assert.equal((await a.getBlockchainEvent(event.id)).id, event.id);
  },
  async subscriptions() {
    const filter = { events: "message_confirmed", message: { tag: `^told${run}` } };
    const wanted = { name: `told${run}`, filter, options: { firstEvent: "newest", readAhead: 5 } };
    made.subscription = await a.replaceSubscription(wanted);
    assert.equal((await a.getSubscriptions({ name: wanted.name }))[0].id, made.subscription.id);
    assert.equal((await a.replaceSubscription(wanted)).id, made.subscription.id);
  },
  async "a durable subscription"() {
    const first = listen(`told${run}`);
    await say(`told${run}-1`);
    await say(`untold${run}`);
    await say(`told${run}-2`);
    await until(() => first.seen.length === 2, "both events are told");
    assert.deepEqual(first.confirmed(), [`told${run}-1`, `told${run}-2`]);
    await until(async () => {
      const found = await fetch(`${hostA}/api/v1/subscriptions/${made.subscription.id}?fetchstatus`);
      return (await found.json()).status.currentOffset >= first.seen[1].sequence;
    }, "both are acknowledged");
    first.socket.close();
    await say(`told${run}-3`, confirm);
    const second = listen([`told${run}`]);
    await until(() => second.seen.length === 1, "what was said meanwhile is told");
    assert.deepEqual(second.confirmed(), [`told${run}-3`]);
    second.socket.close();
  },
  async "a durable subscription in batches"() {
    const filter = { events: "message_confirmed", message: { tag: `^many${run}` } };
    const options = { firstEvent: "newest", batch: true, batchTimeout: "300ms", readAhead: 10 };
    await a.replaceSubscription({ name: `many${run}`, filter, options });
    const ear = listen(`many${run}`);
    for (const n of [1, 2, 3]) await say(`many${run}-${n}`);
    await until(() => ear.confirmed().length === 3, "three events are told");
    assert.deepEqual(ear.confirmed(), [1, 2, 3].map((n) => `many${run}-${n}`));
    ear.socket.close();
  },
  async "an ephemeral subscription"() {
    const ear = listen({ filter: { events: "message_confirmed" } });
    await until(async () => {
      await say(`now${run}`, confirm);
      return ear.seen.length;
    }, "something is told");
    assert(ear.confirmed().every((tag) => tag === `now${run}`));
    ear.socket.close();
  },
  async "a subscription is deleted"() {
    await a.deleteSubscription(made.subscription.id);
    assert.deepEqual(await a.getSubscriptions({ name: `told${run}` }), []);
  },
  async "every call was made"() {
    const folder = path.dirname(require.resolve("@hyperledger/firefly-sdk"));
    const declared = fs.readFileSync(path.join(folder, "firefly.d.ts"), "utf8");
    const calls = [...declared.matchAll(/^    (?!constructor)([a-z]\w*)(?:<[^(]*)?\(/gm)].map((found) => found[1]);
    assert(calls.length > 60, "the declarations are not as they were");
    const ours = calls.filter((name) => !NOT_BUILT.test(name));
    assert.deepEqual(ours.filter((name) => !called.has(name)), []);
    assert.deepEqual([...called].filter((name) => !calls.includes(name)), []);
  },
};

(async () => {
  let failed = 0;
  for (const [name, work] of Object.entries(steps)) {
    try {
      await work();
      console.log(`ok      ${name}`);
    } catch (failure) {
      failed += 1;
      console.log(`FAILED  ${name}: ${failure.stack}`);
    }
  }
  process.exit(failed);
})();
