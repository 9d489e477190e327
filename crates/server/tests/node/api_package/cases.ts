// Requests, valid and invalid: what each is sent to, its name, the request, and the paths of its issues.

/** What a request is sent to. */
export type Target =
  | "push"
  | "post pull"
  | "records"
  | "pull"
  | "stream"
  | "events"
  | "export"
  | "history"
  | "manifest"
  | "vault"
  | "erase";

/** A body as a value or as JSON text, a query without its `?`, or the name of a vault. */
export type Case = readonly [target: Target, name: string, request: unknown, issues: readonly string[]];

/** JSON text, for what no value can express. */
export class Text {
  constructor(readonly json: string) {}
}

const VERSION_MAX = 2 ** 53 - 1;
const CURSOR = "2024-01-15T10:30:00.000Z";

/** An operation that writes `note`. */
function operation(members: object = {}): object {
  return { recordId: "note", baseVersion: null, ciphertext: "aGVsbG8=", deleted: false, ...members };
}

/** A push of one operation with these members. */
function push(members: object = {}): object {
  return { operations: [operation(members)] };
}

/** A push of one operation with a base version as JSON text. */
function pushOfVersion(json: string): Text {
  return new Text(JSON.stringify(push({ baseVersion: "VERSION" })).replace('"VERSION"', json));
}

/** A push of one operation, and of guards. */
function guarded(...guards: unknown[]): object {
  return { ...push(), guards };
}

function ids(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `r${index}`);
}

function bytes(count: number): string {
  return Buffer.alloc(count).toString("base64");
}

const valid: string[] = [];
const recordId = ["operations[0].recordId"];
const baseVersion = ["operations[0].baseVersion"];
const ciphertext = ["operations[0].ciphertext"];
const deleted = ["operations[0].deleted"];

export const cases: readonly Case[] = [
  ["push", "no operations", { operations: [] }, valid],
  ["push", "an unknown member", { operations: [operation({ x: [{}] })], x: { operations: 1 } }, valid],
  ["push", "100 operations", { operations: ids(100).map((id) => operation({ recordId: id })) }, valid],
  ["push", "101 operations", { operations: ids(101).map((id) => operation({ recordId: id })) }, ["operations"]],
  ["push", "operations that are missing", {}, ["operations"]],
  ["push", "operations that are null", { operations: null }, ["operations"]],
  ["push", "operations that are an object", { operations: {} }, ["operations"]],
  ["push", "a body that is an array", [], [""]],
  ["push", "a body that is null", null, [""]],
  ["push", "a body that is a text", "operations", [""]],
  ["push", "an operation that is null", { operations: [null] }, ["operations[0]"]],
  ["push", "an operation that is an array", { operations: [operation({ recordId: "a" }), []] }, ["operations[1]"]],
  ["push", "an empty operation", { operations: [{}] }, [...recordId, ...baseVersion, ...ciphertext, ...deleted]],
  ["push", "an id of 255 bytes", push({ recordId: "x".repeat(255) }), valid],
  ["push", "an id of 256 bytes", push({ recordId: "x".repeat(256) }), recordId],
  ["push", "an id of 254 bytes in 127 characters", push({ recordId: "é".repeat(127) }), valid],
  ["push", "an id of 256 bytes in 128 characters", push({ recordId: "é".repeat(128) }), recordId],
  ["push", "an id of 255 bytes in 85 characters", push({ recordId: "あ".repeat(85) }), valid],
  ["push", "an id of 252 bytes in 63 surrogate pairs", push({ recordId: "💡".repeat(63) }), valid],
  ["push", "an id of 256 bytes in 64 surrogate pairs", push({ recordId: "💡".repeat(64) }), recordId],
  ["push", "an id of white space", push({ recordId: " " }), valid],
  ["push", "an id with a no-break space and a line separator", push({ recordId: "\u00a0\u2028" }), valid],
  ["push", "an id with format characters", push({ recordId: "\u00ad\u200b\ufeff" }), valid],
  ["push", "an id with a noncharacter and a private character", push({ recordId: "\uffff\ue000" }), valid],
  ["push", "an empty id", push({ recordId: "" }), recordId],
  ["push", "an id with NUL", push({ recordId: "a\0" }), recordId],
  ["push", "an id with a line feed", push({ recordId: "a\nb" }), recordId],
  ["push", "an id with U+001F", push({ recordId: "\u001f" }), recordId],
  ["push", "an id with DEL", push({ recordId: "\u007f" }), recordId],
  ["push", "an id with U+009F", push({ recordId: "\u009f" }), recordId],
  ["push", "an id with half of a surrogate pair", new Text('{"operations":[{"recordId":"\\ud83d"}]}'), recordId],
  ["push", "an id with a reversed surrogate pair", new Text('{"operations":[{"recordId":"\\udca1\\ud83d"}]}'), recordId],
  ["push", "an id that is a number", push({ recordId: 1 }), recordId],
  ["push", "an id that is null", push({ recordId: null }), recordId],
  ["push", "a base version of 0", push({ recordId: "v0", baseVersion: 0 }), valid],
  ["push", "the largest base version", push({ baseVersion: VERSION_MAX }), valid],
  ["push", "a base version above the largest", push({ baseVersion: VERSION_MAX + 1 }), baseVersion],
  ["push", "a base version of 1.0", pushOfVersion("1.0"), valid],
  ["push", "a base version of 1e3", pushOfVersion("1e3"), valid],
  ["push", "a base version of -0", pushOfVersion("-0"), valid],
  ["push", "a base version of 9007199254740991.0", pushOfVersion("9007199254740991.0"), valid],
  ["push", "a base version of 9007199254740993", pushOfVersion("9007199254740993"), baseVersion],
  ["push", "a base version of 1e300", pushOfVersion("1e300"), baseVersion],
  ["push", "a base version below 0", push({ baseVersion: -1 }), baseVersion],
  ["push", "a base version of 1.5", push({ baseVersion: 1.5 }), baseVersion],
  ["push", "a base version that is a text", push({ baseVersion: "1" }), baseVersion],
  ["push", "a base version that is a boolean", push({ baseVersion: true }), baseVersion],
  ["push", "a base version that is missing", push({ baseVersion: undefined }), baseVersion],
  ["push", "a ciphertext of one byte", push({ ciphertext: "QQ==" }), valid],
  ["push", "a ciphertext of two bytes", push({ ciphertext: "QUI=" }), valid],
  ["push", "a ciphertext with + and /", push({ ciphertext: "+/+/" }), valid],
  ["push", "a ciphertext of 1 MiB", push({ ciphertext: bytes(1024 * 1024) }), valid],
  ["push", "a ciphertext of 1 MiB and 1 byte", push({ ciphertext: bytes(1024 * 1024 + 1) }), ciphertext],
  ["push", "a ciphertext of 1 MiB and 2 bytes", push({ ciphertext: bytes(1024 * 1024 + 2) }), ciphertext],
  ["push", "a ciphertext whose last bits are not zero, with ==", push({ ciphertext: "QR==" }), ciphertext],
  ["push", "a ciphertext whose last bits are not zero, with =", push({ ciphertext: "QUJ=" }), ciphertext],
  ["push", "a ciphertext without padding", push({ ciphertext: "QQ" }), ciphertext],
  ["push", "a ciphertext with too little padding", push({ ciphertext: "QQ=" }), ciphertext],
  ["push", "a ciphertext with too much padding", push({ ciphertext: "QUJD====" }), ciphertext],
  ["push", "a ciphertext of padding", push({ ciphertext: "====" }), ciphertext],
  ["push", "a ciphertext with padding inside", push({ ciphertext: "QQ==QQ==" }), ciphertext],
  ["push", "a ciphertext in base64url", push({ ciphertext: "-_-_" }), ciphertext],
  ["push", "a ciphertext with a line feed", push({ ciphertext: "QUJD\n" }), ciphertext],
  ["push", "a ciphertext with four line feeds", push({ ciphertext: "QUJD\n\n\n\n" }), ciphertext],
  ["push", "a ciphertext with letters of another script", push({ ciphertext: "ＱＵＪＤ" }), ciphertext],
  ["push", "a ciphertext that is null", push({ ciphertext: null }), ciphertext],
  ["push", "an empty ciphertext", push({ ciphertext: "" }), ciphertext],
  ["push", "a tombstone", push({ recordId: "t1", ciphertext: "", deleted: true }), valid],
  ["push", "a tombstone with a ciphertext", push({ recordId: "t2", deleted: true }), valid],
  ["push", "an empty ciphertext and an invalid id", push({ recordId: "", ciphertext: "" }), recordId],
  ["push", "deleted that is 0", push({ deleted: 0 }), deleted],
  ["push", "deleted that is null", push({ deleted: null }), deleted],
  ["push", "a record twice", { operations: [operation(), operation()] }, ["operations[1].recordId"]],
  ["push", "a record three times", { operations: [operation(), operation(), operation()] }, ["operations[1].recordId", "operations[2].recordId"]],
  ["push", "a record twice, once invalid", { operations: [operation(), operation({ deleted: 1 })] }, ["operations[1].deleted"]],
  ["push", "a record in two normal forms", { operations: [operation({ recordId: "\u00e9" }), operation({ recordId: "e\u0301" })] }, valid],
  ["push", "the record `__proto__`", push({ recordId: "__proto__" }), valid],
  ["push", "guards that are empty", guarded(), valid],
  ["push", "guards that are null", { ...push(), guards: null }, valid],
  ["push", "guards that are null, and no operations", { operations: [], guards: null }, valid],
  ["push", "guards that are an object", { ...push(), guards: {} }, ["guards"]],
  ["push", "a guard", guarded({ recordId: "keyring", version: 0 }), valid],
  ["push", "a guard at the largest version", guarded({ recordId: "keyring", version: VERSION_MAX }), valid],
  ["push", "a guard above the largest version", guarded({ recordId: "keyring", version: VERSION_MAX + 1 }), ["guards[0].version"]],
  ["push", "a guard without a version", guarded({ recordId: "keyring" }), ["guards[0].version"]],
  ["push", "a guard at null", guarded({ recordId: "keyring", version: null }), ["guards[0].version"]],
  ["push", "a guard without a record", guarded({ version: 1 }), ["guards[0].recordId"]],
  ["push", "a guard that is a text", guarded("keyring"), ["guards[0]"]],
  ["push", "10 guards", guarded(...ids(10).map((id) => ({ recordId: id, version: 1 }))), valid],
  ["push", "11 guards", guarded(...ids(11).map((id) => ({ recordId: id, version: 1 }))), ["guards"]],
  ["push", "a guard on a record that is written", guarded({ recordId: "note", version: 1 }), ["guards[0].recordId"]],
  ["push", "two guards on a record", guarded({ recordId: "k", version: 1 }, { recordId: "k", version: 2 }), ["guards[1].recordId"]],
  ["push", "guards without operations", { operations: [], guards: [{ recordId: "k", version: 1 }] }, ["guards"]],
  ["push", "an invalid guard without operations", { operations: [], guards: [{}] }, ["guards[0].recordId", "guards[0].version"]],
  ["push", "an epoch", { ...push(), epoch: "e" }, valid],
  ["push", "an epoch that is null", { ...push(), epoch: null }, valid],
  ["push", "an epoch of 64 bytes", { ...push(), epoch: "é".repeat(32) }, valid],
  ["push", "an epoch of 65 bytes", { ...push(), epoch: `${"é".repeat(32)}e` }, ["epoch"]],
  ["push", "an empty epoch", { ...push(), epoch: "" }, ["epoch"]],
  ["push", "an epoch that is a number", { ...push(), epoch: 1 }, ["epoch"]],
  ["push", "since", { ...push(), since: CURSOR }, valid],
  ["push", "since that is empty", { ...push(), since: "" }, ["since"]],
  ["push", "several problems", { operations: [operation({ ciphertext: "x" })], epoch: "", since: "now", guards: 1 }, [...ciphertext, "epoch", "guards", "since"]],

  ["post pull", "nothing", {}, valid],
  ["post pull", "nulls", { cursor: null, epoch: null, since: null }, valid],
  ["post pull", "everything", { cursor: CURSOR, limit: 7, wait: 0, since: CURSOR, x: 1 }, valid],
  ["post pull", "a body that is an array", [], [""]],
  ["post pull", "numbers that are written as fractions", new Text('{"limit":1e2,"wait":0.0}'), valid],
  ["post pull", "a limit of 0", { limit: 0 }, ["limit"]],
  ["post pull", "a limit of 101", { limit: 101 }, ["limit"]],
  ["post pull", "a limit of 1.5", { limit: 1.5 }, ["limit"]],
  ["post pull", "a limit that is null", { limit: null }, ["limit"]],
  ["post pull", "a limit that is a text", { limit: "5" }, ["limit"]],
  ["post pull", "a wait of 56", { wait: 56 }, ["wait"]],
  ["post pull", "a wait below 0", { wait: -1 }, ["wait"]],
  ["post pull", "an empty cursor", { cursor: "" }, ["cursor"]],
  ["post pull", "a cursor that is a number", { cursor: 0 }, ["cursor"]],
  ["post pull", "several problems", { cursor: "now", limit: 0, wait: 60, epoch: "", since: 1 }, ["cursor", "epoch", "limit", "since", "wait"]],

  ["records", "100 ids", { recordIds: ids(100) }, valid],
  ["records", "101 ids", { recordIds: ids(101) }, ["recordIds"]],
  ["records", "no ids", { recordIds: [] }, ["recordIds"]],
  ["records", "ids that are missing", {}, ["recordIds"]],
  ["records", "ids that are a text", { recordIds: "a" }, ["recordIds"]],
  ["records", "an id twice", { recordIds: ["a", "b", "a"] }, ["recordIds[2]"]],
  ["records", "an id twice, and invalid ones", { recordIds: ["a", "", "a", null, "\n"] }, ["recordIds[1]", "recordIds[2]", "recordIds[3]", "recordIds[4]"]],
  ["records", "an id that is an object", { recordIds: [{}] }, ["recordIds[0]"]],
  ["records", "an epoch that is empty", { recordIds: ["a"], epoch: "" }, ["epoch"]],

  ["pull", "no parameters", "", valid],
  ["pull", "empty parameters", "cursor=&epoch=&since=", valid],
  ["pull", "unknown parameters", "x=1&x=2&Limit=0", valid],
  ["pull", "everything", `cursor=${CURSOR}&limit=7&wait=0&since=${CURSOR}`, valid],
  ["pull", "a limit with leading zeros", "limit=007", valid],
  ["pull", "an empty limit", "limit=", ["limit"]],
  ["pull", "a limit of 0", "limit=0", ["limit"]],
  ["pull", "a limit of 101", "limit=101", ["limit"]],
  ["pull", "a limit with a sign", "limit=%2B5", ["limit"]],
  ["pull", "a limit with a space", "limit=+5", ["limit"]],
  ["pull", "a limit as a fraction", "limit=5.0", ["limit"]],
  ["pull", "a limit in hexadecimal", "limit=0x5", ["limit"]],
  ["pull", "a limit in other digits", "limit=%D9%A3", ["limit"]],
  ["pull", "a limit of 20 digits", "limit=99999999999999999999", ["limit"]],
  ["pull", "a limit of 256 zeros and a digit", `limit=${"0".repeat(256)}7`, ["limit"]],
  ["pull", "a limit twice", "limit=5&limit=5", ["limit"]],
  ["pull", "an empty wait", "wait=", ["wait"]],
  ["pull", "a wait of 56", "wait=56", ["wait"]],
  ["pull", "an epoch of 65 bytes", `epoch=${"e".repeat(65)}`, ["epoch"]],
  ["pull", "a cursor twice", "cursor=&cursor=", ["cursor"]],
  ["pull", "a cursor with 230 digits of a fraction", `cursor=2024-01-15T10:30:00.${"0".repeat(230)}Z`, valid],
  ["pull", "a cursor of 257 bytes", `cursor=2024-01-15T10:30:00.${"0".repeat(236)}Z`, ["cursor"]],
  ["pull", "a cursor that is not UTF-8", "cursor=%FF", ["cursor"]],
  ["pull", "several problems", "limit=0&cursor=x&wait=x&since=1", ["cursor", "limit", "since", "wait"]],

  ["stream", "no parameters", "", valid],
  ["stream", "everything", `cursor=${CURSOR}&since=&epoch=`, valid],
  ["stream", "a limit", "limit=100", ["limit"]],
  ["stream", "an empty limit", "limit=", ["limit"]],
  ["stream", "a wait", "wait=0", ["wait"]],
  ["stream", "several problems", "limit=0&cursor=x&wait=x&since=1", ["cursor", "limit", "since", "wait"]],

  ["events", "no names", "vaults=,", ["vaults"]],
  ["events", "an empty name", "vaults=a,,b", ["vaults"]],
  ["events", "a name in capitals", "vaults=a,Notes", ["vaults"]],
  ["events", "names of 259 bytes", `vaults=${["a", "b", "c", "d"].map((letter) => letter.repeat(64)).join()}`, ["vaults"]],
  ["events", "names twice", "vaults=a&vaults=b", ["vaults"]],
  ["export", "no parameters", "", valid],
  ["export", "history", "history=true", valid],
  ["export", "no history", "history=false", valid],
  ["export", "an empty history", "history=", valid],
  ["export", "history as a number", "history=1", ["history"]],
  ["export", "history in capitals", "history=TRUE", ["history"]],
  ["export", "history twice", "history=true&history=true", ["history"]],
  ["history", "no parameters", "", ["recordId"]],
  ["history", "a record", "recordId=note", valid],
  ["history", "a record and everything that goes with it", "recordId=note&before=2&limit=1&epoch=", valid],
  ["history", "a record and empty parameters", "recordId=note&before=&after=&epoch=", valid],
  ["history", "an empty record", "recordId=", ["recordId"]],
  ["history", "a record of 256 bytes", `recordId=${"x".repeat(256)}`, ["recordId"]],
  ["history", "a record twice", "recordId=a&recordId=a", ["recordId"]],
  ["history", "a record and a time", `recordId=note&at=${CURSOR}`, ["at"]],
  ["history", "a record, a time and more", `recordId=note&at=${CURSOR}&after=a&before=1&version=1`, ["at"]],
  ["history", "a record and an id to go on from", "recordId=note&after=a", ["after"]],
  ["history", "a version", "recordId=note&version=1", valid],
  ["history", "the largest version", `recordId=note&version=${VERSION_MAX}`, valid],
  ["history", "a version above the largest", "recordId=note&version=9007199254740992", ["version"]],
  ["history", "version 0", "recordId=note&version=0", ["version"]],
  ["history", "an empty version", "recordId=note&version=", ["version"]],
  ["history", "a version and a limit", "recordId=note&version=1&limit=1", ["limit"]],
  ["history", "a version and a lower one", "recordId=note&version=2&before=1", ["before"]],
  ["history", "a version and everything else", "recordId=note&version=2&before=1&after=a&limit=1", ["after", "before", "limit"]],
  ["history", "a version and an empty lower one", "recordId=note&version=2&before=", valid],
  ["history", "a version without a record", "version=1", ["recordId"]],
  ["history", "before 0", "recordId=note&before=0", ["before"]],
  ["history", "a time", `at=${CURSOR}`, valid],
  ["history", "a time and everything that goes with it", `at=${CURSOR}&after=note&limit=1000&epoch=`, valid],
  ["history", "a time and what needs a record", `at=${CURSOR}&before=1&version=1`, ["before", "version"]],
  ["history", "an empty time", "at=", ["at"]],
  ["history", "a limit of 1001", "recordId=note&limit=1001", ["limit"]],
  ["history", "an empty limit", "recordId=note&limit=", ["limit"]],
  ["history", "an epoch of 65 bytes", `recordId=note&epoch=${"e".repeat(65)}`, ["epoch"]],
  ["history", "problems of values and of their combination", "version=0&after=a", ["version"]],

  ["manifest", "no parameters", "", valid],
  ["manifest", "everything", "after=note&limit=1000", valid],
  ["manifest", "an empty id", "after=", valid],
  ["manifest", "an id of 255 bytes", `after=${"x".repeat(255)}`, valid],
  ["manifest", "an id of 256 bytes", `after=${"x".repeat(256)}`, ["after"]],
  ["manifest", "an id with a control character", "after=a%0A", ["after"]],
  ["manifest", "an id that is not UTF-8", "after=%FF", valid],
  ["manifest", "an id twice", "after=a&after=a", ["after"]],
  ["manifest", "a limit of 1001", "limit=1001", ["limit"]],

  ["vault", "a letter", "a", valid],
  ["vault", "a digit", "0", valid],
  ["vault", "all kinds of characters", "app.example_1-x", valid],
  ["vault", "64 characters", "z".repeat(64), valid],
  ["vault", "65 characters", "z".repeat(65), ["vault"]],
  ["vault", "a capital letter", "Notes", ["vault"]],
  ["vault", "a hyphen first", "-a", ["vault"]],
  ["vault", "an underscore first", "_a", ["vault"]],
  ["vault", "a tilde", "a~", ["vault"]],
  ["vault", "a letter that is not ASCII", "ä", ["vault"]],
  ["vault", "a percent sign", "a%20", ["vault"]],

  ["erase", "an epoch", "confirm=8a0f6c3e", valid],
  ["erase", "an epoch of 64 bytes", `confirm=${"e".repeat(64)}`, valid],
  ["erase", "an epoch of 65 bytes", `confirm=${"e".repeat(65)}`, ["confirm"]],
  ["erase", "an empty epoch", "confirm=", ["confirm"]],
  ["erase", "no epoch", "", ["confirm"]],
  ["erase", "an epoch twice", "confirm=a&confirm=a", ["confirm"]],

  ...[
    "2024-01-15t10:30:00z",
    "2024-01-15T10:30:00.1Z",
    "2024-01-15T10:30:00.99999999999999999999Z",
    "2024-01-15T11:30:00+01:00",
    "2024-01-15T11:30:00 01:00",
    "2024-01-15T05:00:00-23:59",
    "2024-01-15T10:30:00-00:00",
    "2024-02-29T00:00:00Z",
    "2000-02-29T00:00:00Z",
    "0000-02-29T00:00:00Z",
    "2016-12-31T23:59:60Z",
    "2024-01-15T10:30:60Z",
    "0000-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59.999-23:59",
  ].map((text): Case => ["post pull", `the cursor ${text}`, { cursor: text, since: text }, valid]),
  ...[
    " ",
    "now",
    "0",
    "1705314600000",
    "2024-01-15",
    "2024-01-15T10:30:00",
    "2024-01-15T10:30Z",
    "2024-01-15 10:30:00Z",
    "2024-00-15T10:30:00Z",
    "2024-13-15T10:30:00Z",
    "2024-01-00T10:30:00Z",
    "2024-01-32T10:30:00Z",
    "2024-04-31T10:30:00Z",
    "2024-02-30T10:30:00Z",
    "2023-02-29T10:30:00Z",
    "1900-02-29T10:30:00Z",
    "2024-01-15T24:00:00Z",
    "2024-01-15T10:60:00Z",
    "2024-01-15T10:30:61Z",
    "2024-01-15T10:30:00.Z",
    "2024-01-15T10:30:00,12Z",
    "2024-01-15T10:30:00+0100",
    "2024-01-15T10:30:00+01",
    "2024-01-15T10:30:00+24:00",
    "2024-01-15T10:30:00+01:60",
    "2024-01-15T10:30:00+01:00:00",
    "2024-01-15T10:30:00Z ",
    "2024-01-15T10:30:00Z\n",
    "2024-01-15T10:30:00Z[UTC]",
    "2024-W03-1T10:30:00Z",
    "20240115T103000Z",
    "+002024-01-15T10:30:00Z",
    "２024-01-15T10:30:00Z",
    "2024-01-15T10:30:00−01:00",
  ].map((text): Case => ["post pull", `the cursor ${text}`, { cursor: text, since: text }, ["cursor", "since"]]),
];
