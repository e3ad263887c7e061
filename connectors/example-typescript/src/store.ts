/**
 * Everything durable: the ledger, and for each stream of each instance its epoch, its keys and the
 * updates that wait for an ack.
 *
 * The state is what results from the journal's entries, one after the other; a start applies them
 * again. A change is taken in memory at once, so that the next call meets it, and answered and told
 * when its entry is on disk.
 */
import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { StreamRef__Output } from "./gen/photinus/connector/v1/StreamRef.js";
import { Journal } from "./journal.js";
import { Ledger, type Content, type Transaction } from "./ledger.js";

interface Place {
  instance: string;
  stream: string;
}

/** A key with what became of it; `content` is missing when it was cancelled before it was used. */
interface OperationEntry extends Place {
  type: "operation";
  key: string;
  method: string;
  digest: string;
  time: number;
  content?: Content;
}

type Entry =
  | { type: "ledger"; id: string }
  | { type: "instance"; instance: string; storeId: string }
  | (Place & { type: "epoch"; epoch: string })
  | (Place & { type: "acked"; through: number })
  | OperationEntry;

export interface Operation {
  key: string;
  method: string;
  /** Of the call's arguments. */
  digest: string;
  time: number;
  /** Missing when the key was cancelled before it was used. */
  transaction?: Transaction;
}

/** The end of an operation, which the core has not acked yet. */
export interface Update {
  /** From 1, in the order of the stream's operations. */
  number: number;
  operation: Operation;
}

/** What is kept for one StreamRef. */
export class StreamState {
  epoch = 0n;
  readonly operations = new Map<string, Operation>();
  updates: Update[] = [];
  /** Set by the session that serves the stream. */
  onUpdate: () => void = () => undefined;
  private updatesMade = 0;

  /** The submission is durable: its end may be told. */
  publish(operation: Operation): void {
    this.updates.push({ number: ++this.updatesMade, operation });
    this.onUpdate();
  }
}

export class InstanceState {
  private readonly streams = new Map<string, StreamState>();

  constructor(readonly storeId: string) {}

  stream(name: string): StreamState {
    let found = this.streams.get(name);
    if (found === undefined) this.streams.set(name, (found = new StreamState()));
    return found;
  }
}

/** Name of a stream among those of its instance. */
export function streamName(ref: StreamRef__Output): string {
  return JSON.stringify([ref.clusterId, ref.namespace, ref.consumer]);
}

export class Store {
  private readonly instances = new Map<string, InstanceState>();
  private found: Ledger | undefined;

  /** `onFailure` hears that the journal cannot be written: memory is ahead of it, the process must end. */
  private constructor(
    private readonly journal: Journal<Entry>,
    private readonly onFailure: (error: unknown) => void,
  ) {}

  static async open(folder: string, onFailure: (error: unknown) => void): Promise<Store> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const [journal, entries] = await Journal.open<Entry>(join(folder, "journal.jsonl"));
    const store = new Store(journal, onFailure);
    for (const entry of entries) store.apply(entry)();
    if (store.found === undefined) await store.record({ type: "ledger", id: randomUUID() });
    return store;
  }

  get ledger(): Ledger {
    if (this.found === undefined) throw new Error("the journal does not begin with its ledger");
    return this.found;
  }

  /** What is kept of an instance; made when there is nothing yet. */
  async instance(name: string): Promise<InstanceState> {
    if (!this.instances.has(name)) {
      await this.record({ type: "instance", instance: name, storeId: randomUUID() });
    }
    await this.settled();
    return this.state(name);
  }

  /** Remembers a higher epoch. Whoever answers waits for `settled`. */
  raiseEpoch(instance: string, stream: string, epoch: bigint): void {
    void this.record({ type: "epoch", instance, stream, epoch: epoch.toString() });
  }

  /** Carries out a submission, or with no content marks its key as cancelled. Resolves once it is durable. */
  async operate(entry: Omit<OperationEntry, "type">): Promise<Operation> {
    const recorded = this.record({ type: "operation", ...entry });
    const operation = this.state(entry.instance).stream(entry.stream).operations.get(entry.key);
    await recorded;
    if (operation === undefined) throw new Error(`the key ${entry.key} was not recorded`);
    return operation;
  }

  /** Updates up to a number are stored by the core. */
  acked(instance: string, stream: string, through: number): void {
    void this.record({ type: "acked", instance, stream, through });
  }

  /** Resolves once all that was done before is durable. */
  settled(): Promise<void> {
    return this.journal.settled();
  }

  close(): Promise<void> {
    return this.journal.close();
  }

  private record(entry: Entry): Promise<void> {
    const publish = this.apply(entry);
    const done = this.journal.append(entry).then(publish);
    done.catch(this.onFailure);
    return done;
  }

  /** Takes an entry in memory; the returned function tells of it, once it is durable. */
  private apply(entry: Entry): () => void {
    const nothing = (): void => undefined;
    switch (entry.type) {
      case "ledger":
        this.found = new Ledger(entry.id);
        return nothing;
      case "instance":
        this.instances.set(entry.instance, new InstanceState(entry.storeId));
        return nothing;
      case "epoch":
        this.stream(entry).epoch = BigInt(entry.epoch);
        return nothing;
      case "acked": {
        const stream = this.stream(entry);
        stream.updates = stream.updates.filter((update) => update.number > entry.through);
        return nothing;
      }
      case "operation":
        return this.applyOperation(entry);
    }
  }

  private applyOperation(entry: OperationEntry): () => void {
    const { key, method, digest, time, content } = entry;
    const stream = this.stream(entry);
    if (content === undefined) {
      stream.operations.set(key, { key, method, digest, time });
      return () => undefined;
    }
    const transaction = this.ledger.add(content);
    const operation = { key, method, digest, time, transaction };
    stream.operations.set(key, operation);
    return () => {
      this.ledger.publish(transaction.block);
      stream.publish(operation);
    };
  }

  private stream(place: Place): StreamState {
    return this.state(place.instance).stream(place.stream);
  }

  private state(name: string): InstanceState {
    const found = this.instances.get(name);
    if (found === undefined) throw new Error(`the journal does not know the instance ${name}`);
    return found;
  }
}
