/** EventService: the one stream by which the connector tells the core everything. */
import { nameOf } from "./calls.js";
import { invalid, toResponse } from "./errors.js";
import type { EventServiceHandlers } from "./gen/photinus/connector/v1/EventService.js";
import type { StreamRequest__Output } from "./gen/photinus/connector/v1/StreamRequest.js";
import type { Instances } from "./instances.js";
import { Session, type Call } from "./session.js";

export function eventService(instances: Instances): EventServiceHandlers {
  return { Stream: (call) => serve(instances, call) };
}

function serve(instances: Instances, call: Call): void {
  let session: Session | undefined;
  let over = false;
  const end = (): void => {
    over = true;
    session?.close();
  };
  const fail = (error: unknown): void => {
    if (over) return;
    end();
    call.emit("error", toResponse(error));
  };
  call.on("data", (frame: StreamRequest__Output) => {
    if (over) return;
    try {
      if (session === undefined) session = begin(instances, call, frame, fail);
      else session.take(frame);
    } catch (error) {
      fail(error);
    }
  });
  call.on("end", () => {
    // The core has closed its side: nothing can be acked any more.
    if (over) return;
    end();
    call.end();
  });
  call.on("cancelled", end);
}

function begin(
  instances: Instances,
  call: Call,
  { open }: StreamRequest__Output,
  fail: (error: unknown) => void,
): Session {
  const instance = instances.of(call);
  if (!open) throw invalid("The first frame must be Open", "OPEN_MISSING");
  const stream = nameOf(open.stream);
  const epoch = BigInt(open.ownerEpoch);
  if (epoch <= 0n) throw invalid("Open needs the leader's epoch", "EPOCH_REQUIRED");
  instance.checkTaking();
  const state = instance.stream(stream);
  const acked = (through: number): void => instance.store.acked(instance.name, stream, through);
  const session = new Session(call, open, { ledger: instance.store.ledger, state, acked }, fail);
  try {
    instance.checkEpoch(stream, epoch);
  } catch (error) {
    session.close();
    throw error;
  }
  // The same leader again: the connection of the running stream is dead, and nobody noticed yet.
  instance.sessions.get(stream)?.supersede(epoch);
  instance.sessions.set(stream, session);
  void session.closed.then(() => {
    if (instance.sessions.get(stream) === session) instance.sessions.delete(stream);
  });
  instance.store
    .settled()
    .then(() => session.begin())
    .catch(fail);
  return session;
}
