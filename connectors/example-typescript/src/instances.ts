/** The configured instances of this process: one for each member that shares the ledger. */
import { status, type Metadata, type ServerWritableStream } from "@grpc/grpc-js";
import { invalid, Refusal } from "./errors.js";
import type { WatchStatusRequest__Output } from "./gen/photinus/connector/v1/WatchStatusRequest.js";
import type { WatchStatusResponse } from "./gen/photinus/connector/v1/WatchStatusResponse.js";
import type { Content } from "./ledger.js";
import { toTimestamp } from "./listener.js";
import type { Session } from "./session.js";
import { Accounts, type Settings } from "./settings.js";
import type { InstanceState, Operation, Store, StreamState } from "./store.js";

const INSTANCE_HEADER = "x-connector-instance";
const INSTANCE_FORM = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

type Watch = ServerWritableStream<WatchStatusRequest__Output, WatchStatusResponse>;

export class Instances {
  private readonly byName = new Map<string, Instance>();

  constructor(readonly store: Store) {}

  /** The instance that a call's metadata names. */
  of(call: { metadata: Metadata }): Instance {
    const name = call.metadata.get(INSTANCE_HEADER)[0]?.toString();
    if (!name) throw invalid(`The metadata ${INSTANCE_HEADER} is missing`, "INSTANCE_REQUIRED");
    const found = this.byName.get(name);
    if (found === undefined) {
      const message = "This instance is not configured in this process";
      throw new Refusal(status.FAILED_PRECONDITION, "NOT_CONFIGURED", message);
    }
    return found;
  }

  async configure(name: string, settings: Settings, revision: bigint): Promise<Instance> {
    if (!INSTANCE_FORM.test(name)) {
      throw invalid("An instance's name is 1 to 63 of a-z, 0-9 and dash", "INVALID_INSTANCE");
    }
    const state = await this.store.instance(name);
    let instance = this.byName.get(name);
    if (instance === undefined) {
      instance = new Instance(name, state, this.store);
      this.byName.set(name, instance);
    }
    instance.configure(settings, revision);
    return instance;
  }

  /** Drains all instances and ends what is open; idempotent. */
  async stop(graceMs: number): Promise<void> {
    const all = [...this.byName.values()];
    await Promise.all(all.map((instance) => instance.drain(graceMs)));
    for (const instance of all) instance.endWatches();
  }
}

export class Instance {
  accounts = new Accounts({ keys: [] });
  readonly sessions = new Map<string, Session>();
  private readonly watches = new Set<Watch>();
  private revision = 0n;
  private drainingSince: number | undefined;
  private configuredAt = Date.now();

  constructor(
    readonly name: string,
    readonly state: InstanceState,
    readonly store: Store,
  ) {}

  get storeId(): string {
    return this.state.storeId;
  }

  stream(name: string): StreamState {
    return this.state.stream(name);
  }

  /** Takes settings live; nothing that runs is disturbed. Ends a drain. */
  configure(settings: Settings, revision: bigint): void {
    if (revision < this.revision) {
      const message = `Revision ${revision} is older than ${this.revision}, which is in force`;
      throw new Refusal(status.FAILED_PRECONDITION, "STALE_REVISION", message);
    }
    this.revision = revision;
    this.accounts = new Accounts(settings);
    if (this.drainingSince !== undefined) {
      this.drainingSince = undefined;
      this.configuredAt = Date.now();
      this.tellStatus();
    }
  }

  /** Refuses new work while the instance drains. */
  checkTaking(): void {
    if (this.drainingSince !== undefined) {
      throw new Refusal(status.UNAVAILABLE, "DRAINING", "The connector is being stopped");
    }
  }

  /** EVT-006, for calls and streams: refuses an epoch below the highest seen, remembers a higher one. */
  checkEpoch(stream: string, epoch: bigint): void {
    const highest = this.stream(stream).epoch;
    if (epoch < highest) {
      const message = `Epoch ${epoch} is over: the stream belongs to epoch ${highest}`;
      throw new Refusal(status.FAILED_PRECONDITION, "STALE_EPOCH", message);
    }
    if (epoch > highest) {
      this.store.raiseEpoch(this.name, stream, epoch);
      this.sessions.get(stream)?.supersede(epoch);
    }
  }

  /** Puts a transaction on the ledger under a key, or with no content cancels the key; durable when it resolves. */
  operate(
    stream: string,
    key: string,
    method: string,
    digest: string,
    content?: Content,
  ): Promise<Operation> {
    const entry = { instance: this.name, stream, key, method, digest, time: Date.now() };
    return this.store.operate(content === undefined ? entry : { ...entry, content });
  }

  /** Ends all streams with Drained, or after the grace without; takes nothing new. Idempotent. */
  async drain(graceMs: number): Promise<void> {
    if (this.drainingSince === undefined) {
      this.drainingSince = Date.now();
      this.tellStatus();
    }
    const open = [...this.sessions.values()];
    for (const session of open) session.drain();
    let timer: NodeJS.Timeout | undefined;
    const grace = new Promise((resolve) => (timer = setTimeout(resolve, graceMs)));
    await Promise.race([Promise.all(open.map((session) => session.closed)), grace]);
    clearTimeout(timer);
    for (const session of open) session.abandon();
  }

  watch(call: Watch): void {
    this.watches.add(call);
    call.on("cancelled", () => this.watches.delete(call));
    call.write(this.status());
  }

  endWatches(): void {
    for (const call of this.watches) call.end();
    this.watches.clear();
  }

  private status(): WatchStatusResponse {
    return this.drainingSince === undefined
      ? { state: "RUNTIME_STATE_OK", since: toTimestamp(this.configuredAt) }
      : {
          state: "RUNTIME_STATE_STOPPING",
          reason: "The connector is being stopped",
          since: toTimestamp(this.drainingSince),
        };
  }

  private tellStatus(): void {
    for (const call of this.watches) call.write(this.status());
  }
}
