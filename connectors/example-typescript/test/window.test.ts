import assert from "node:assert/strict";
import { test } from "node:test";
import { Refusal } from "../src/errors.js";
import { Window } from "../src/window.js";

function filled(count: number, window = new Window(10, 1000)): Window {
  for (let n = 0; n < count; n++) {
    const seq = window.lastSeq + 1;
    window.add({ seq, batch: { seq }, bytes: 100, updatesThrough: 10 * seq });
  }
  return window;
}

test("there is room up to the window's batches and bytes", () => {
  const window = filled(2, new Window(2, 1000));
  assert.equal(window.room, 0);
  window.ack(1);
  assert.equal(window.room, 900);
  assert.equal(filled(3, new Window(10, 350)).room, 50);
});

test("an ack covers all batches up to its number, and gives the updates in them", () => {
  const window = filled(3);
  assert.equal(window.ack(2), 20);
  assert.equal(window.ack(2), 0);
  assert.equal(window.empty, false);
  assert.equal(window.ack(3), 30);
  assert.equal(window.empty, true);
});

test("after a nack the unacked batches come again in order, before anything new", () => {
  const window = filled(4);
  window.ack(1);
  window.nack(2);
  assert.equal(window.room, 0);
  const again = [window.takeAgain(), window.takeAgain(), window.takeAgain()];
  assert.deepEqual(again, [{ seq: 2 }, { seq: 3 }, { seq: 4 }]);
  assert.equal(window.takeAgain(), undefined);
  assert.equal(window.room, 700);
});

test("what is acked after a nack does not come again", () => {
  const window = filled(3);
  window.nack(1);
  window.ack(2);
  assert.deepEqual(window.takeAgain(), { seq: 3 });
});

test("answers to what was never sent are refused", () => {
  const window = filled(1);
  assert.throws(() => window.ack(2), Refusal);
  assert.throws(() => window.nack(2), Refusal);
});
