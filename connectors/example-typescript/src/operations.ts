/** OperationService, and the one way in which work is begun: under a key, once. */
import { status, type ServerUnaryCall } from "@grpc/grpc-js";
import { checkMutation, digestOf, nameOf, unary } from "./calls.js";
import { invalid, Refusal } from "./errors.js";
import type { Event } from "./gen/photinus/connector/v1/Event.js";
import type { MutationContext__Output } from "./gen/photinus/connector/v1/MutationContext.js";
import type { Operation as OperationMessage } from "./gen/photinus/connector/v1/Operation.js";
import type { OperationServiceHandlers } from "./gen/photinus/connector/v1/OperationService.js";
import type { Submission } from "./gen/photinus/connector/v1/Submission.js";
import type { Instance, Instances } from "./instances.js";
import type { Body } from "./ledger.js";
import { toTimestamp } from "./listener.js";
import type { Operation } from "./store.js";

const PAGE_SIZE_DEFAULT = 100;
const PAGE_SIZE_MAX = 1000;

/** Request of a submission, as far as this module looks at it. */
interface Submitting {
  context: MutationContext__Output | null;
  signingKey: string;
}

/**
 * Puts a transaction on the ledger: once for a key, however often and however much at once it is asked.
 * `read` checks the arguments, and gives the contract and what the transaction says. It is called for a
 * new key only, before anything is done; what it throws leaves the key free.
 */
export async function submit<Request extends Submitting>(
  instance: Instance,
  method: string,
  request: Request,
  call: ServerUnaryCall<Request, unknown>,
  read: () => { contract: string; body: Body },
): Promise<Submission> {
  const { key, stream } = checkMutation(instance, request.context, call, { epochRequired: true });
  const digest = digestOf(method, request);
  const known = instance.stream(stream).operations.get(key);
  if (known !== undefined) {
    await instance.store.settled();
    return replay(known, digest);
  }
  instance.checkTaking();
  const { contract, body } = read();
  const signer = instance.accounts.resolve(request.signingKey, { toSign: true });
  // Nothing is awaited between the look at the key and this: a second call finds the key taken.
  const content = { signer, contract, time: Date.now(), body };
  return submission(await instance.operate(stream, key, method, digest, content), false);
}

function replay(known: Operation, digest: string): Submission {
  if (known.transaction !== undefined && known.digest !== digest) {
    const message = "This key was used with other arguments";
    throw new Refusal(status.ALREADY_EXISTS, "KEY_REUSED", message);
  }
  return submission(known, true);
}

function submission(operation: Operation, replayed: boolean): Submission {
  const { state, externalId, outputJson } = outcome(operation);
  return { replayed, state, externalId, outputJson };
}

function outcome({ transaction }: Operation): Required<
  Pick<OperationMessage, "externalId" | "outputJson">
> & {
  state: "OPERATION_STATE_SUCCEEDED" | "OPERATION_STATE_CANCELLED";
} {
  if (transaction === undefined) {
    return { state: "OPERATION_STATE_CANCELLED", externalId: "", outputJson: "" };
  }
  const { hash, block } = transaction;
  const outputJson = JSON.stringify({ transactionHash: hash, blockNumber: String(block) });
  return { state: "OPERATION_STATE_SUCCEEDED", externalId: hash, outputJson };
}

/** The event that tells of an operation's end. */
export function updateOf(operation: Operation, number: number): Event {
  const operationUpdate = { idempotencyKey: operation.key, ...outcome(operation) };
  return { id: `update/${number}/${operationUpdate.externalId}`, operationUpdate };
}

/** What is known of a key; throws Refusal when nothing is. */
export async function find(instance: Instance, stream: string, key: string): Promise<Operation> {
  const found = instance.stream(stream).operations.get(key);
  if (found === undefined) {
    throw new Refusal(status.NOT_FOUND, "UNKNOWN_KEY", `Nothing is known of the key ${key}`);
  }
  await instance.store.settled();
  return found;
}

export function operationService(instances: Instances): OperationServiceHandlers {
  return {
    GetOperation: unary(async ({ stream, idempotencyKey }, call) => {
      const found = await find(instances.of(call), nameOf(stream), idempotencyKey);
      return { operation: message(found) };
    }),

    ListOperations: unary(async (request, call) => {
      const instance = instances.of(call);
      if (!/^\d{0,15}$/.test(request.pageToken)) {
        throw invalid("The page token is not one of this connector", "INVALID_TOKEN");
      }
      const all = [...instance.stream(nameOf(request.stream)).operations.values()];
      await instance.store.settled();
      const size = Math.min(request.pageSize || PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX);
      const wanted = (operation: Operation): boolean =>
        request.state === "OPERATION_STATE_UNSPECIFIED" ||
        request.state === outcome(operation).state;
      const operations: OperationMessage[] = [];
      let next = Number(request.pageToken);
      for (; next < all.length && operations.length < size; next++) {
        const operation = all[next];
        if (operation !== undefined && wanted(operation)) operations.push(message(operation));
      }
      return { operations, nextPageToken: next < all.length ? String(next) : "" };
    }),

    Cancel: unary(async ({ context }, call) => {
      const instance = instances.of(call);
      const { key, stream } = checkMutation(instance, context, call, { epochRequired: false });
      const known = instance.stream(stream).operations.get(key);
      // Work is done when it is taken: what can be withdrawn is only a key that never came.
      const operation = known ?? (await instance.operate(stream, key, "", ""));
      await instance.store.settled();
      return { state: outcome(operation).state };
    }),
  };
}

function message(operation: Operation): OperationMessage {
  const time = toTimestamp(operation.time);
  const { key: idempotencyKey, method } = operation;
  return { idempotencyKey, method, ...outcome(operation), created: time, updated: time };
}
