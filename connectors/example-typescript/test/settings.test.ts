import assert from "node:assert/strict";
import { test } from "node:test";
import { Accounts, readSettings } from "../src/settings.js";

const WRONG: [string, string][] = [
  ["{", ""],
  ["[]", ""],
  ["null", ""],
  ["{}", "/keys"],
  ['{"keys": []}', "/keys"],
  ['{"keys": "a long secret"}', "/keys"],
  ['{"keys": ["a long secret", 12345678]}', "/keys/1"],
  ['{"keys": ["short"]}', "/keys/0"],
  ['{"keys": ["a long secret"], "a/b~": 1}', "/a~1b~0"],
];

for (const [text, pointer] of WRONG) {
  test(`${text} is refused at ${pointer || "the root"}`, () => {
    const { settings, diagnostics } = readSettings(text);
    assert.equal(settings, undefined);
    assert.deepEqual(
      diagnostics.map((found) => found.pointer),
      [pointer],
    );
    assert.doesNotMatch(JSON.stringify(diagnostics), /a long secret|short|12345678/);
  });
}

test("accounts follow from the secrets; the first is the default", () => {
  const { settings } = readSettings('{"keys": ["the first secret", "the second secret"]}');
  assert.ok(settings);
  const accounts = new Accounts(settings);
  const first = accounts.resolve("", { toSign: true });
  assert.match(first, /^0x[0-9a-f]{40}$/);
  assert.equal(accounts.resolve(first.toUpperCase().replace("X", "x"), { toSign: true }), first);
  const foreign = `0x${"ab".repeat(20)}`;
  assert.equal(accounts.resolve(foreign, { toSign: false }), foreign);
  assert.throws(() => accounts.resolve(foreign, { toSign: true }), { reason: "UNKNOWN_KEY" });
  assert.throws(() => accounts.resolve("nobody", { toSign: false }), { reason: "INVALID_KEY" });
});
