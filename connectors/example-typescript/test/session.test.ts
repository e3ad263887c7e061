import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Refusal } from "../src/errors.js";
import type { Store, StreamState } from "../src/store.js";
import {
  content,
  Core,
  folderOf,
  INSTANCE,
  listener,
  openStore,
  STREAM,
  submit,
} from "./support.js";

async function prepare(t: TestContext): Promise<{ store: Store; state: StreamState }> {
  const store = await openStore(t, await folderOf(t));
  return { store, state: (await store.instance(INSTANCE)).stream(STREAM) };
}

/** Fake time, from now on in this test. */
function stopClock(t: TestContext): (milliseconds: number) => void {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  return (milliseconds) => t.mock.timers.tick(milliseconds);
}

test("Opened comes first, then what waited, cut at the batch size and held by the window", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["a", "b", "c", "d", "e"]);
  const core = new Core(store, state, [listener("l")], { batchSize: 2, windowBatches: 2 });
  t.after(() => core.session.close());
  assert.deepEqual(core.kinds, ["opened", "batch", "batch"]);
  assert.deepEqual(core.batches, [
    ["a", "b"],
    ["c", "d"],
  ]);
  core.ack(1);
  assert.deepEqual(core.batches.at(-1), ["e"]);
});

test("a listener goes on behind the checkpoint of a batch", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["a", "b", "c"]);
  const first = new Core(store, state, [listener("l")], { batchSize: 2 });
  first.session.close();
  const resume = first.frames[1]?.batch?.checkpoints?.["l"] as Buffer;
  const second = new Core(store, state, [listener("l", { resume })]);
  second.session.close();
  assert.deepEqual(second.batches, [["c"]]);
});

test("a checkpoint of another ledger is told, and the other listeners go on", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["a"]);
  const resume = Buffer.from(`1/0x${"0".repeat(64)}`);
  const core = new Core(store, state, [listener("lost", { resume }), listener("l")]);
  core.session.close();
  assert.deepEqual(core.kinds, ["opened", "checkpointInvalid", "batch"]);
  assert.deepEqual(core.batches, [["a"]]);
});

test("contracts are apart, and what was passed over is told by Progress", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["a"]);
  await submit(store, ["b", "c"], "other");
  const tick = stopClock(t);
  const core = new Core(store, state, [listener("l")]);
  t.after(() => core.session.close());
  assert.deepEqual(core.batches, [["a"]]);
  tick(5000);
  assert.deepEqual(core.frames.at(-1)?.progress?.checkpoints, {}, "an event is unacked");
  core.ack(1);
  tick(5000);
  const { checkpoints, finalBlocks } = core.frames.at(-1)?.progress ?? {};
  assert.match(String(checkpoints?.["l"]), /^3\//);
  assert.deepEqual(finalBlocks, { l: 3 });
  tick(5000);
  assert.deepEqual(core.frames.at(-1)?.progress?.checkpoints, {}, "it was told");
});

test("an incomplete batch waits for more, but not longer than asked", async (t) => {
  const { store, state } = await prepare(t);
  const tick = stopClock(t);
  const core = new Core(store, state, [listener("l")], { batchTimeoutMs: 100, batchSize: 3 });
  t.after(() => core.session.close());
  await submit(store, ["a", "b"]);
  assert.deepEqual(core.batches, []);
  tick(100);
  assert.deepEqual(core.batches, [["a", "b"]]);
  await submit(store, ["c", "d", "e"]);
  assert.deepEqual(core.batches.at(-1), ["c", "d", "e"], "a full one does not wait");
});

test("after a nack the same batches come again, behind the pause", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["a", "b", "c"]);
  const tick = stopClock(t);
  const core = new Core(store, state, [listener("l")], { batchSize: 1 });
  t.after(() => core.session.close());
  core.send({ nack: { seq: "2", status: null, retryAfterMs: 300 } });
  tick(299);
  assert.equal(core.batches.length, 3);
  tick(1);
  assert.deepEqual(core.frames.slice(-2), core.frames.slice(2, 4));
});

test("an event that no window holds stops its listener only", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["x".repeat(70_000)]);
  const oldest = listener("oldest");
  const newest = listener("newest", { firstEvent: "newest" });
  const core = new Core(store, state, [oldest, newest], {}, 64 << 10);
  t.after(() => core.session.close());
  assert.equal(core.frames.at(-1)?.listenerError?.listenerId, "oldest");
  await submit(store, ["a"]);
  assert.deepEqual(core.batches, [["a"]]);
});

test("a listener with much to tell does not keep others waiting", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["a", "b", "c", "d"]);
  const both = [listener("one"), listener("two")];
  const core = new Core(store, state, both, { batchSize: 2, windowBatches: 1 });
  t.after(() => core.session.close());
  core.ack(1);
  const ids = core.frames.map((frame) => frame.batch?.events?.[0]?.listenerId);
  assert.deepEqual(ids, [undefined, "one", "two"]);
});

test("updates come until they are acked, and a full connection holds all up", async (t) => {
  const { store, state } = await prepare(t);
  const entry = { instance: INSTANCE, stream: STREAM, method: "m", digest: "d", time: 1 };
  for (const key of ["a", "b"]) await store.operate({ ...entry, key, content: content(key) });
  const first = new Core(store, state, [], { batchSize: 1 });
  assert.deepEqual(first.batches, [["update"], ["update"]]);
  first.ack(1);
  first.session.close();
  const second = new Core(store, state, []);
  t.after(() => second.session.close());
  assert.equal(second.frames[1]?.batch?.events?.[0]?.operationUpdate?.idempotencyKey, "b");
  second.full = true;
  await store.operate({ ...entry, key: "c", content: content("c") });
  await store.operate({ ...entry, key: "d", content: content("d") });
  assert.equal(
    second.batches.length,
    2,
    "one was written, and the connection said that it is full",
  );
  second.full = false;
  second.emit("drain");
  assert.equal(second.batches.length, 3);
});

test("Drained follows the last ack; nothing new comes before it", async (t) => {
  const { store, state } = await prepare(t);
  await submit(store, ["a"]);
  const core = new Core(store, state, [listener("l")]);
  core.send({ drain: {} });
  await submit(store, ["b"]);
  assert.deepEqual(core.kinds, ["opened", "batch"]);
  core.ack(1);
  assert.deepEqual(core.frames.at(-1), { drained: { lastSeq: 1 } });
  assert.equal(core.ended, true);
  await core.session.closed;
});

test("a session that has ended takes and tells nothing more", async (t) => {
  const { store, state } = await prepare(t);
  const old = new Core(store, state, [listener("l")]);
  const young = new Core(store, state, [listener("l")]);
  t.after(() => young.session.close());
  old.session.supersede(7n);
  assert.deepEqual(old.frames.at(-1), { superseded: { ownerEpoch: "7" } });
  const told = old.frames.length;
  await submit(store, ["a"]);
  old.ack(99);
  assert.equal(old.frames.length, told);
  assert.deepEqual(young.batches, [["a"]]);
});

test("a stream that is abandoned ends with an error", async (t) => {
  const { store, state } = await prepare(t);
  const core = new Core(store, state, []);
  t.after(() => core.session.close());
  core.session.abandon();
  assert.equal((core.failures[0] as Refusal).reason, "DRAINING");
});

test("a window too small for its largest events is refused", async (t) => {
  const { store, state } = await prepare(t);
  assert.throws(() => new Core(store, state, [], {}, 1000), /window/);
});
