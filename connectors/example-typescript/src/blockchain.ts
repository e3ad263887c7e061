/** BlockchainService: accounts, contracts, pins and network actions. */
import { status } from "@grpc/grpc-js";
import { nameOf, notOffered, unary } from "./calls.js";
import { MESSAGE_BYTES_MAX } from "./connector.js";
import { invalid, Refusal } from "./errors.js";
import type { BatchPin__Output } from "./gen/photinus/connector/v1/BatchPin.js";
import type { BlockchainServiceHandlers } from "./gen/photinus/connector/v1/BlockchainService.js";
import type { Instances } from "./instances.js";
import { locationOf, parseLocation, type Body, type Transaction } from "./ledger.js";
import { CONTRACT_VERSION } from "./listener.js";
import { find, submit } from "./operations.js";

// FireFly's name for keys of this form; other members store it with the identity.
const VERIFIER_TYPE = "ethereum_address";
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const HASH = /^[0-9a-f]{64}$/;
const ACTION = /^[a-z][a-z0-9_-]{0,63}$/i;

export function blockchainService(instances: Instances): BlockchainServiceHandlers {
  return {
    ResolveKey: unary(({ key, intent }, call) => {
      const others = intent === "KEY_INTENT_QUERY" || intent === "KEY_INTENT_LOOKUP";
      const account = instances.of(call).accounts.resolve(key, { toSign: !others });
      return { key: account, verifierType: VERIFIER_TYPE };
    }),

    SubmitBatchPin: unary(async (request, call) => {
      const submission = submit(instances.of(call), "SubmitBatchPin", request, call, () => ({
        contract: parseLocation(request.locationJson),
        body: readPin(request.pin),
      }));
      return { submission: await submission };
    }),

    SubmitNetworkAction: unary(async (request, call) => {
      const submission = submit(instances.of(call), "SubmitNetworkAction", request, call, () => ({
        contract: parseLocation(request.locationJson),
        body: readAction(request.action, request.payload),
      }));
      return { submission: await submission };
    }),

    NormalizeLocation: unary(({ locationJson }, call) => {
      instances.of(call);
      return { locationJson: locationOf(parseLocation(locationJson)) };
    }),

    GetNetworkVersion: unary(({ locationJson }, call) => {
      instances.of(call);
      parseLocation(locationJson);
      return { version: CONTRACT_VERSION };
    }),

    GetTransactionStatus: unary(async ({ stream, idempotencyKey, transactionId }, call) => {
      const instance = instances.of(call);
      const found = idempotencyKey
        ? (await find(instance, nameOf(stream), idempotencyKey)).transaction
        : instance.store.ledger.find(transactionId);
      return { statusJson: JSON.stringify(describe(found)) };
    }),

    GetParamSchema: unary(() => ({ schemaJson: "true" })),

    // No capability for contracts of users is claimed.
    InvokeContract: notOffered("InvokeContract"),
    DeployContract: notOffered("DeployContract"),
    QueryContract: notOffered("QueryContract"),
    ParseInterface: notOffered("ParseInterface"),
    GenerateInterface: notOffered("GenerateInterface"),
    DescribeEvent: notOffered("DescribeEvent"),
  };
}

function readPin(pin: BatchPin__Output | null): Body {
  if (pin === null) throw invalid("There is no pin");
  const { transactionUuid, batchId, batchHash, payloadRef, contexts } = pin;
  if (!UUID.test(transactionUuid)) throw invalid("transaction_uuid is no UUID");
  if (!UUID.test(batchId)) throw invalid("batch_id is no UUID");
  if (!HASH.test(batchHash)) throw invalid("batch_hash must be 64 hex digits");
  if (!contexts.every((context) => HASH.test(context))) {
    throw invalid("Each context must be 64 hex digits");
  }
  return fits({ kind: "pin", transactionUuid, batchId, batchHash, payloadRef, contexts });
}

function readAction(action: string, payload: string): Body {
  if (!ACTION.test(action)) throw invalid("The action is no name");
  return fits({ kind: "action", action, payload });
}

function fits(body: Body): Body {
  if (Buffer.byteLength(JSON.stringify(body)) > MESSAGE_BYTES_MAX) {
    throw invalid(`It is larger than ${MESSAGE_BYTES_MAX} bytes`, "MESSAGE_TOO_LARGE");
  }
  return body;
}

function describe(transaction: Transaction | undefined): object {
  if (transaction === undefined) {
    throw new Refusal(status.NOT_FOUND, "UNKNOWN_TRANSACTION", "There is no such transaction");
  }
  const { hash, block, signer, contract } = transaction;
  return { status: "Succeeded", transactionHash: hash, blockNumber: block, signer, contract };
}
