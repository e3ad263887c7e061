import assert from "node:assert/strict";
import { test } from "node:test";
import { status } from "@grpc/grpc-js";
import { cut, invalid, toResponse, toStatus } from "../src/errors.js";

test("texts are cut at whole characters, within their bytes", () => {
  assert.equal(cut("short", 10), "short");
  for (const text of ["x".repeat(100), "ä".repeat(100), "€".repeat(100), "😀".repeat(100)]) {
    for (let limit = 20; limit < 30; limit++) {
      const found = cut(text, limit);
      assert.ok(Buffer.byteLength(found) <= limit, `${found} has more than ${limit} bytes`);
      assert.doesNotMatch(found, /\uFFFD/);
      assert.match(found, /.…$/u);
    }
  }
});

test("details stay small, whatever a message quotes", () => {
  const response = toResponse(invalid("€".repeat(100_000)));
  const [details] = response.metadata?.get("grpc-status-details-bin") ?? [];
  assert.ok((details as Buffer).length < 4096);
  assert.ok(Buffer.byteLength(response.details ?? "") <= 512);
});

test("a defect is INTERNAL, and its text stays here", (t) => {
  const logged = t.mock.method(process.stderr, "write", () => true);
  const found = toStatus(new TypeError("secret"));
  assert.equal(found.code, status.INTERNAL);
  assert.doesNotMatch(JSON.stringify(found), /secret/);
  assert.equal(logged.mock.callCount(), 1);
});
