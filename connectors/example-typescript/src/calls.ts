/** What all calls have in common: how they answer and fail, and what a mutating one must bring. */
import { createHash } from "node:crypto";
import { status, type handleUnaryCall, type ServerUnaryCall } from "@grpc/grpc-js";
import { invalid, Refusal, toResponse } from "./errors.js";
import type { MutationContext__Output } from "./gen/photinus/connector/v1/MutationContext.js";
import type { StreamRef__Output } from "./gen/photinus/connector/v1/StreamRef.js";
import type { Instance } from "./instances.js";
import { streamName } from "./store.js";

const KEY_BYTES_MAX = 256;

/** A unary handler from a function: what it throws becomes the call's status. */
export function unary<Request, Response>(
  answer: (
    request: Request,
    call: ServerUnaryCall<Request, Response>,
  ) => Response | Promise<Response>,
): handleUnaryCall<Request, Response> {
  return (call, callback) => {
    Promise.resolve()
      .then(() => answer(call.request, call))
      .then(
        (response) => callback(null, response),
        (error: unknown) => callback(toResponse(error)),
      );
  };
}

/** For calls of capabilities that are not claimed. */
export function notOffered(name: string): handleUnaryCall<unknown, never> {
  return unary(() => {
    throw new Refusal(status.UNIMPLEMENTED, "NOT_OFFERED", `This connector does not offer ${name}`);
  });
}

/** A mutating call that brings all it must. */
export interface Mutation {
  key: string;
  stream: string;
}

/** Checks deadline, key, stream and epoch of a mutating call, in this order. */
export function checkMutation(
  instance: Instance,
  context: MutationContext__Output | null,
  call: ServerUnaryCall<unknown, unknown>,
  { epochRequired }: { epochRequired: boolean },
): Mutation {
  if (call.getDeadline() === Infinity) {
    throw invalid("A mutating call needs a deadline", "DEADLINE_REQUIRED");
  }
  const key = context?.idempotencyKey ?? "";
  if (!key || Buffer.byteLength(key) > KEY_BYTES_MAX) {
    const message = `A mutating call needs a key of at most ${KEY_BYTES_MAX} bytes`;
    throw invalid(message, "KEY_REQUIRED");
  }
  const stream = nameOf(context?.stream ?? null);
  const epoch = BigInt(context?.ownerEpoch ?? 0);
  if (epoch !== 0n) instance.checkEpoch(stream, epoch);
  else if (epochRequired) throw invalid("This call needs the leader's epoch", "EPOCH_REQUIRED");
  return { key, stream };
}

/** Name of a stream that a call must bring. */
export function nameOf(ref: StreamRef__Output | null): string {
  if (!ref?.clusterId || !ref.consumer) {
    throw invalid("The stream needs a cluster id and a consumer", "STREAM_REQUIRED");
  }
  return streamName(ref);
}

/** Digest of a call's arguments; who asks, and under which key, is no argument. */
export function digestOf(method: string, request: object): string {
  const text = JSON.stringify({ ...request, context: null });
  return createHash("sha256").update(`${method} ${text}`).digest("hex");
}
