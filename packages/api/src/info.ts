// Identity, features, limits and health of a server.

import * as z from "zod";

import { countSchema } from "./scalars.js";

/** What a server may support besides push and pull. Later versions may add some. */
export const FEATURES = [
  "epoch",
  "erase",
  "events",
  "export",
  "guards",
  "head",
  "history",
  "manifest",
  "post-pull",
  "quotas",
  "records",
  "since",
  "stream",
  "usage",
  "vault-events",
  "vaults",
  "wait",
] as const;

/** Name of something that a server may support. */
export type Feature = (typeof FEATURES)[number];

/** Schema of {@link LimitsInfo}. */
export const limitsInfoSchema = z.object({
  /** Maximum number of operations in one push. */
  operationsMax: countSchema,
  /** Maximum number of guards in one push. */
  guardsMax: countSchema,
  /** Maximum length of a record id, in bytes. */
  recordIdBytesMax: countSchema,
  /** Maximum size of one record's ciphertext, in bytes after base64 decoding. */
  ciphertextBytesMax: countSchema,
  /** Maximum size of a request body, in bytes. A push of one record of the maximum size must fit into it. */
  bodyBytesMax: countSchema,
  /** Maximum number of records in one page of a pull. */
  pageRecordsMax: countSchema,
  /** Maximum number of ids in one request for records. */
  recordIdsMax: countSchema,
  /** Maximum number of entries in one page of a manifest. */
  manifestEntriesMax: countSchema,
  /**
   * Maximum number of versions in one page of a record's history, and of records that one page of the states at a time
   * looks at.
   */
  historyEntriesMax: countSchema,
  /**
   * Maximum size of the ciphertext in one page of a pull, in the records read by id, or in the conflicts of one push,
   * in bytes after base64 decoding. The first record is returned even if it is larger.
   */
  pageBytesMax: countSchema,
  /** Maximum size of the request line and all headers together, in bytes. */
  headerBytesMax: countSchema,
  /** Maximum size of a bearer token, in bytes. It must be below the maximum size of the headers. */
  tokenBytesMax: countSchema,
  /** Maximum `wait` of a pull, in seconds. */
  waitSecondsMax: countSchema,
  /**
   * Maximum number of named vaults of one user, beside the default vault. A push that would create one more gets 507;
   * pushes at the same time may exceed it.
   */
  vaultsPerUserMax: countSchema,
  /** Days for which replaced versions of records are kept. 0 keeps none. */
  historyDays: countSchema,
  /**
   * Time that a version must have stood to be kept when it is replaced, in seconds. The last version of each ten
   * minutes is kept even if it stood for less.
   */
  historyMinAgeSeconds: countSchema,
  /**
   * Maximum size of the ciphertext of a vault's replaced versions, in bytes. Above it, a version is kept only if it
   * stood for an hour.
   */
  historyBytesMax: countSchema,
  /**
   * Maximum number of records in a vault, not counting tombstones. With tombstones, a vault may have ten times as
   * many. 0 sets no quota; any other value requires `tombstoneDays`.
   */
  quotaRecords: countSchema,
  /**
   * Maximum size of the ciphertext of all records of a vault, in bytes. Records that exist may exceed it by 1 MiB in
   * total. 0 sets no quota.
   */
  quotaBytes: countSchema,
  /**
   * Time between two removals of old tombstones and replaced versions by the server, in seconds. One node at a time
   * does it. 0 leaves it to `vaultsync gc`.
   */
  gcIntervalSeconds: countSchema,
  /**
   * Time over which clients that have to start over are spread, in seconds: a 410 has a random `Retry-After` up to
   * this. Set it before you restore a backup.
   */
  resyncSpreadSeconds: countSchema,
  /** Days after which tombstones are removed. It must be at least `historyDays`. 0 keeps them for ever. */
  tombstoneDays: countSchema,
  /** Maximum number of waiting pulls and event streams of one user at a time. */
  waitsPerUserMax: countSchema,
  /**
   * Memory budget for all request and response bodies in flight, in bytes. It must hold two of the largest body or
   * page.
   */
  memoryBytesMax: countSchema,
  /**
   * Memory budget for one user's request and response bodies in flight, in bytes. It must hold two of the largest body
   * or page.
   */
  memoryBytesPerUserMax: countSchema,
  /** Maximum number of open connections. */
  connectionsMax: countSchema,
  /** Maximum time from a new connection to its first byte, in seconds. */
  firstByteSeconds: countSchema,
  /** Maximum time from a request's first byte to the end of its headers, in seconds. */
  headerSeconds: countSchema,
  /**
   * Maximum time from the end of a request's headers to the end of its body, in seconds. A body may take longer if
   * each such period brings as much as `bodyBytesPerSecondMin` asks for.
   */
  bodySeconds: countSchema,
  /**
   * Maximum time from the end of a request's headers to the end of its body, in seconds, for a body that arrives at
   * the minimum rate or faster. A body that arrives at 1 MiB/s may take longer.
   */
  bodySecondsMax: countSchema,
  /** Maximum time from the end of a request's body to the response, in seconds, without the time of a `wait`. */
  handlerSeconds: countSchema,
  /**
   * Maximum time without progress while the server writes to the client, in seconds. On Linux, a connection is also
   * closed if sent bytes are not acknowledged for that long.
   */
  writeStallSeconds: countSchema,
  /** Maximum time that a connection may stay open without a request, in seconds. */
  idleSeconds: countSchema,
  /** Time that an event stream stays open after its token has expired, in seconds. */
  streamGraceSeconds: countSchema,
  /**
   * Time from the signal to stop until no more connections are accepted, in seconds. Meanwhile `/readyz` reports 503
   * and everything else is served, so that a load balancer can choose other nodes.
   */
  drainDelaySeconds: countSchema,
  /** Maximum time for requests in flight to finish when the server is stopped, in seconds. */
  drainSeconds: countSchema,
  /** Minimum rate at which a request body arrives, in bytes per second, measured over each period of `bodySeconds`. */
  bodyBytesPerSecondMin: countSchema,
  /** Requests per second for each user, with bursts of three times as many. 0 disables all rate limits. */
  ratePerUser: countSchema,
  /**
   * Requests per second for each client address, counted before sign-in, with bursts of three times as many. 0
   * disables this limit.
   */
  ratePerAddress: countSchema,
  /**
   * Failed sign-ins per second for each client address, with bursts of three times as many. A token counts if no key
   * of an issuer verifies it. 0 disables this limit.
   */
  signInFailuresPerAddress: countSchema,
  /**
   * Bytes per second of request and response bodies for each user, with bursts of three times as many. They are
   * counted once a body is complete, whether or not the client reads it. 0 disables this limit.
   */
  byteRatePerUser: countSchema,
  /**
   * Bytes per second of request and response bodies for each client address, with bursts of three times as many. 0
   * disables this limit.
   */
  byteRatePerAddress: countSchema,
});

/** Limits that a client can run into. Times are in seconds. */
export type LimitsInfo = z.infer<typeof limitsInfoSchema>;

/** Schema of {@link Info}. */
export const infoSchema = z.object({
  /** Always `vaultsync`. */
  name: z.string(),
  /** The server's version. */
  version: z.string(),
  /** The protocol versions that the server supports. A client must support one of them. */
  protocols: z.array(countSchema),
  /** Features besides push and pull: those of {@link FEATURES}, and later ones. */
  features: z.array(z.string() as z.ZodType<Feature | (string & {}), string>),
  /** Limits on requests, users and the server. */
  limits: limitsInfoSchema,
});

/** Identity, features and limits of a server. */
export type Info = z.infer<typeof infoSchema>;

/** Schema of {@link Health}. */
export const healthSchema = z.object({
  /** `ok` from `/healthz`, `ready` from `/readyz`. */
  status: z.string(),
});

/** Response of a healthy server. */
export type Health = z.infer<typeof healthSchema>;
