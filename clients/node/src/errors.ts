/** What a call that failed says, with the details that the daemon sends. */

import { type ServiceError, status } from "@grpc/grpc-js";
import protobuf from "protobufjs";

// The parts of google.rpc that are read here.
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
  message ErrorInfo { string reason = 1; string domain = 2; map<string, string> metadata = 3; }
  message FieldViolation { string field = 1; string description = 2; }
  message BadRequest { repeated FieldViolation field_violations = 1; }
`);

export class TaxondError extends Error {
  constructor(
    /** A status of gRPC, such as `status.NOT_FOUND`. */
    readonly code: status,
    message: string,
    /** Stable reason, such as `INVALID_FIELDS`; empty where the daemon did not answer. */
    readonly reason: string,
    /** The fields of the request that are wrong. */
    readonly violations: { field: string; description: string }[],
    /** What belongs to the reason, such as the nearest name there is, as `suggestion`. */
    readonly metadata: Record<string, string>,
  ) {
    super(`${status[code]}: ${message}`);
    this.name = "TaxondError";
  }
}

/** The error that a failed call raises. */
export function failure(error: ServiceError): Error {
  if (error.code === undefined) return error;
  let reason = "";
  let metadata: Record<string, string> = {};
  const violations: { field: string; description: string }[] = [];
  for (const packed of error.metadata?.get("grpc-status-details-bin") ?? []) {
    const { details } = decode<{ details: { typeUrl: string; value: Uint8Array }[] }>("Status", packed as Buffer);
    for (const { typeUrl, value } of details) {
      if (typeUrl.endsWith("google.rpc.ErrorInfo")) {
        ({ reason, metadata } = decode<{ reason: string; metadata: Record<string, string> }>("ErrorInfo", value));
      } else if (typeUrl.endsWith("google.rpc.BadRequest")) {
        violations.push(...decode<{ fieldViolations: typeof violations }>("BadRequest", value).fieldViolations);
      }
    }
  }
  return new TaxondError(error.code, error.details, reason, violations, metadata);
}

function decode<T>(type: string, bytes: Uint8Array): T {
  return root.lookupType(type).decode(bytes) as unknown as T;
}
