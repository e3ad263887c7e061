import assert from "node:assert/strict";
import { appendFile, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Journal } from "../src/journal.js";
import { folderOf } from "./support.js";

test("entries are on disk, in order, when their append resolves", async (t) => {
  const path = join(await folderOf(t), "journal");
  const [journal] = await Journal.open<number>(path);
  const all = Array.from({ length: 50 }, (_, n) => journal.append(n));
  await all[20];
  const early = (await readFile(path, "utf8")).split("\n").slice(0, 21).map(Number);
  assert.deepEqual(early, [...Array(21).keys()]);
  await journal.append(50);
  await journal.close();
  const [again, entries] = await Journal.open<number>(path);
  await again.close();
  assert.deepEqual(entries, [...Array(51).keys()]);
});

test("a line that was cut off by a crash is dropped, and the next one follows the last whole one", async (t) => {
  const path = join(await folderOf(t), "journal");
  const [journal] = await Journal.open<string>(path);
  await journal.append("whole");
  await journal.close();
  await appendFile(path, '"half of a li');
  const [again, entries] = await Journal.open<string>(path);
  assert.deepEqual(entries, ["whole"]);
  await again.append("next");
  await again.close();
  assert.equal(await readFile(path, "utf8"), '"whole"\n"next"\n');
});

test("damage in the middle is told with its line", async (t) => {
  const path = join(await folderOf(t), "journal");
  await writeFile(path, '"one"\nxxx\n"three"\n');
  await assert.rejects(Journal.open(path), /damaged in line 2/);
});
