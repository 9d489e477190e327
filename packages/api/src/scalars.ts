// Strings and numbers that several requests and responses have.
//
// The rules of requests are those of the server. Those of responses are looser where a client gains nothing from a
// stricter rule: a later server may return longer ids, and epochs are opaque.

import * as z from "zod";

/** Largest version, 2^53 - 1: the largest integer that a JSON number represents exactly in JavaScript. */
export const VERSION_MAX = Number.MAX_SAFE_INTEGER;

/** Maximum length of a record id, in bytes of UTF-8. */
export const RECORD_ID_BYTES_MAX = 255;

/** Maximum length of an epoch in a request, in bytes of UTF-8. */
export const EPOCH_BYTES_MAX = 64;

/** Default of a server's `ciphertextBytesMax`: maximum size of a record's ciphertext in bytes, decoded. */
export const CIPHERTEXT_BYTES_MAX = 1024 * 1024;

/** Number of bytes of a text in UTF-8. A surrogate without its pair counts as the three bytes of U+FFFD. */
function utf8Bytes(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const codePoint = character.codePointAt(0) ?? 0;
    bytes += codePoint < 0x80 ? 1 : codePoint < 0x800 ? 2 : codePoint < 0x10000 ? 3 : 4;
  }
  return bytes;
}

/** A string of `min` to `max` bytes of UTF-8, without surrogates that have no pair: JSON cannot carry those. */
export function utf8Schema(min: number, max: number, rule: string) {
  return z
    .string()
    .refine((text) => text.length <= max && utf8Bytes(text) >= min && utf8Bytes(text) <= max, rule)
    .refine((text) => !/\p{Surrogate}/u.test(text), "must not contain a surrogate without its pair");
}

/** Id of a record in a request: 1 to 255 bytes of UTF-8 without control characters. */
export const recordIdSchema = utf8Schema(1, RECORD_ID_BYTES_MAX, `must be 1 to ${RECORD_ID_BYTES_MAX} bytes of UTF-8`)
  .refine((text) => !/\p{Control}/u.test(text), "must not contain control characters");

/** Number of writes of a record that the server has. */
export const versionSchema = z.int().min(1);

/** Version in a request: from 0, which means that the server does not have the record. */
export const versionOrNoneSchema = z.int(`must be a whole number from 0 to ${VERSION_MAX}`).min(0);

/**
 * Bytes as canonical standard base64 with padding, at most `bytesMax` of them when decoded.
 *
 * The text is searched for a character that must not be there, because an expression that repeats groups of four
 * needs memory in proportion to the text.
 */
export function base64Schema(bytesMax = Number.POSITIVE_INFINITY) {
  return z
    .string()
    .refine(isCanonicalBase64, "must be canonical standard base64 with padding")
    .refine((text) => decodedBytes(text) <= bytesMax, `must be at most ${bytesMax} bytes when decoded`)
    .meta({ contentEncoding: "base64" });
}

function paddingOf(text: string): number {
  return text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
}

function decodedBytes(text: string): number {
  return Math.floor(((text.length - paddingOf(text)) * 3) / 4);
}

function isCanonicalBase64(text: string): boolean {
  const padding = paddingOf(text);
  const digits = padding === 0 ? text : text.slice(0, -padding);
  if (text.length % 4 !== 0 || /[^A-Za-z0-9+/]/.test(digits)) return false;
  // The bits of the last digit that no byte uses are zero.
  const last = padding === 2 ? /[AQgw]$/ : padding === 1 ? /[AEIMQUYcgkosw048]$/ : undefined;
  return last === undefined || last.test(digits);
}

/** Time as the server writes it: `YYYY-MM-DDTHH:MM:SS.mmmZ`, as `Date.prototype.toISOString` does. */
export const timestampSchema = z
  .string()
  .refine((text) => /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/.test(text), "must be like 2024-01-15T10:30:00.000Z")
  .meta({ format: "date-time" });

const RFC_3339 = /^(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.\d+)?(?:[Zz]|[-+ ](\d\d):(\d\d))$/;

/** Whether a text is an RFC 3339 date and time with an offset, as the server reads it. */
function isCursor(text: string): boolean {
  const parts = RFC_3339.exec(text);
  if (parts === null) return false;
  const part = (index: number) => Number(parts[index] ?? 0);
  const isLeapYear = part(1) % 4 === 0 && (part(1) % 100 !== 0 || part(1) % 400 === 0);
  const days = [31, isLeapYear ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][part(2) - 1];
  const hasDay = days !== undefined && part(3) >= 1 && part(3) <= days;
  // The server takes a leap second for the second before it, and accepts one in any minute.
  const hasTime = part(4) < 24 && part(5) < 60 && part(6) <= 60;
  return hasDay && hasTime && part(7) < 24 && part(8) < 60;
}

/**
 * Cursor in a request: an RFC 3339 date and time with an offset.
 *
 * A space counts as the `+` of an offset: it is what becomes of a `+` that is not percent-encoded in a query.
 */
export const cursorSchema = z
  .string()
  .refine(isCursor, "must be an RFC 3339 date and time with an offset, such as 2024-01-15T10:30:00Z")
  .meta({ format: "date-time" });

/** Epoch in a request: the epoch of an earlier response. */
export const epochSchema = utf8Schema(
  1,
  EPOCH_BYTES_MAX,
  `must be the epoch of an earlier response, 1 to ${EPOCH_BYTES_MAX} bytes`,
);

/** First 16 bytes of the SHA-256 of a ciphertext, as 32 lower-case hexadecimal digits. */
export const digestSchema = z.string().refine((text) => /^[0-9a-f]{32}$/.test(text), "must be 32 hexadecimal digits");

/** Name of a vault in a path. */
export const vaultNameSchema = z
  .string()
  .min(1)
  .max(64)
  .regex(
    /^[a-z0-9][a-z0-9._-]*$/,
    "must have 1 to 64 characters of a-z, 0-9, '.', '_' and '-', and begin with a letter or a digit",
  );

/** Name of a vault. */
export type VaultName = z.infer<typeof vaultNameSchema>;

/** Number of something: a whole number from 0. */
export const countSchema = z.int().min(0);
