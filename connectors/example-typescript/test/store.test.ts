import assert from "node:assert/strict";
import { test } from "node:test";
import { Store } from "../src/store.js";
import { content, folderOf, INSTANCE, openStore, STREAM } from "./support.js";

const entry = { instance: INSTANCE, stream: STREAM, method: "SubmitNetworkAction", time: 5 };

/** Opens the store of a folder again, as after a crash. */
async function again(store: Store, folder: string): Promise<Store> {
  await store.settled();
  return Store.open(folder, (error) => assert.fail(String(error)));
}

test("a start finds the ledger, keys, epochs, store ids and unacked updates of the last one", async (t) => {
  const folder = await folderOf(t);
  const store = await openStore(t, folder);
  for (const key of ["a", "b", "c"]) {
    await store.operate({ ...entry, key, digest: `of ${key}`, content: content(key) });
  }
  await store.operate({ ...entry, key: "cancelled", digest: "" });
  store.raiseEpoch(INSTANCE, STREAM, 1n << 60n);
  store.acked(INSTANCE, STREAM, 2);

  const found = await again(store, folder);
  t.after(() => found.close());
  assert.equal(found.ledger.head, 3);
  assert.equal(found.ledger.hashOf(3), store.ledger.hashOf(3));
  const state = await found.instance(INSTANCE);
  assert.equal(state.storeId, (await store.instance(INSTANCE)).storeId);
  const stream = state.stream(STREAM);
  assert.equal(stream.epoch, 1n << 60n);
  assert.deepEqual([...stream.operations.keys()], ["a", "b", "c", "cancelled"]);
  assert.equal(stream.operations.get("b")?.digest, "of b");
  assert.equal(stream.operations.get("cancelled")?.transaction, undefined);
  assert.deepEqual(
    stream.updates.map((update) => [update.number, update.operation.key]),
    [[3, "c"]],
  );
});

test("nothing is published before it is durable, but its key is taken at once", async (t) => {
  const store = await openStore(t, await folderOf(t));
  const stream = (await store.instance(INSTANCE)).stream(STREAM);
  const done = store.operate({ ...entry, key: "a", digest: "", content: content("a") });
  assert.equal(stream.operations.has("a"), true);
  assert.equal(store.ledger.head, 0);
  assert.deepEqual(stream.updates, []);
  assert.equal((await done).transaction?.block, 1);
  assert.equal(store.ledger.head, 1);
  assert.equal(stream.updates.length, 1);
});

test("two ledgers with the same transactions differ by their hashes", async (t) => {
  const hashes = [];
  for (let n = 0; n < 2; n++) {
    const store = await openStore(t, await folderOf(t));
    await store.operate({ ...entry, key: "a", digest: "", content: content("a") });
    hashes.push(store.ledger.hashOf(1));
  }
  assert.notEqual(hashes[0], hashes[1]);
});
