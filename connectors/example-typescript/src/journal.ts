/**
 * A file of JSON lines that only grows: what must outlive `kill -9`.
 *
 * Lines that arrive while a write is under way go to disk together in the next one, so that a busy
 * connector pays for few synchronisations.
 */
import { open, readFile, truncate, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";

export class Journal<Entry> {
  private queue: string[] = [];
  private next: Promise<void> | undefined;
  private running: Promise<void> = Promise.resolve();

  private constructor(private readonly file: FileHandle) {}

  /** Opens or makes a journal; gives the entries that are in it. Throws when the file is damaged. */
  static async open<Entry>(path: string): Promise<[Journal<Entry>, Entry[]]> {
    const file = await open(path, "a", 0o600);
    const folder = await open(dirname(path));
    await folder.sync(); // the name of a new file is not durable without
    await folder.close();
    const bytes = await readFile(path);
    // Killed in the middle of a write: nobody was told of what is behind the last line's end.
    const whole = bytes.lastIndexOf("\n") + 1;
    if (whole < bytes.length) await truncate(path, whole);
    const lines = bytes.subarray(0, whole).toString().split("\n").slice(0, -1);
    const entries = lines.map((line, index) => {
      try {
        return JSON.parse(line) as Entry;
      } catch {
        throw new Error(`${path} is damaged in line ${index + 1}`);
      }
    });
    return [new Journal<Entry>(file), entries];
  }

  /** Adds an entry; resolves once it, and all before it, are on disk. */
  append(entry: Entry): Promise<void> {
    this.queue.push(`${JSON.stringify(entry)}\n`);
    this.next ??= this.running.then(() => this.write());
    return this.next;
  }

  /** Resolves once everything appended so far is on disk. */
  settled(): Promise<void> {
    return this.next ?? this.running;
  }

  async close(): Promise<void> {
    await this.settled();
    await this.file.close();
  }

  private async write(): Promise<void> {
    const text = this.queue.join("");
    this.queue = [];
    this.running = this.next ?? this.running;
    this.next = undefined;
    await this.file.appendFile(text);
    await this.file.datasync();
  }
}
