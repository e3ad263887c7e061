import assert from "node:assert/strict";
import { chmod, stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { lock, prepare, StartError } from "../src/address.js";
import { folderOf } from "./support.js";

for (const address of ["0.0.0.0:1", "example.org:1", "127.0.0.1", "192.168.0.1:80"]) {
  test(`${address} is refused`, async () => {
    await assert.rejects(prepare(address, true), StartError);
  });
}

test("TCP on loopback needs to be asked for", async () => {
  await assert.rejects(prepare("127.0.0.1:0", false), /--insecure/);
  assert.equal(await prepare("127.0.0.1:0", true), "127.0.0.1:0");
});

test("a socket needs a private directory and a short path, and never takes another's place", async (t) => {
  const folder = await folderOf(t);
  const path = join(folder, "x.sock");
  await assert.rejects(prepare(`unix:${join(folder, "x".repeat(100))}`, false), /longer/);
  await chmod(folder, 0o755);
  await assert.rejects(prepare(`unix:${path}`, false), /chmod 700/);
  await chmod(folder, 0o700);
  await writeFile(path, "");
  await assert.rejects(prepare(`unix:${path}`, false), /is no socket/);
  const served = join(folder, "served.sock");
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((done) => server.listen(served, done));
  t.after(() => server.close());
  await assert.rejects(prepare(`unix:${served}`, false), /Another process serves/);
});

test("a socket in a directory that is not there yet gets a private one", async (t) => {
  const folder = join(await folderOf(t), "new");
  assert.equal(await prepare(`unix:${folder}/x.sock`, false), `unix:${folder}/x.sock`);
  assert.equal((await stat(folder)).mode & 0o777, 0o700);
});

test("a data directory is for one process", { skip: process.platform !== "linux" }, async (t) => {
  const folder = await folderOf(t);
  const first = await lock(folder);
  await assert.rejects(lock(folder), StartError);
  await new Promise((done) => first?.close(done));
  const second = await lock(folder);
  await new Promise((done) => second?.close(done));
});
