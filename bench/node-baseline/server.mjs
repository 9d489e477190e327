// The baseline that Vaultsync is compared with: Node, `pg`, one query per operation, and the wall clock as
// the cursor. Its faults are not fixed: pushes are not atomic, and a reader can skip records.
//
// DATABASE_URL is the database. The port it listens on is printed.

import { createSign, createVerify, generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import pg from "pg";

const PAGE_RECORDS = 100;

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });

await pool.query(`
  create table if not exists sync_records (
    user_id text not null,
    record_id text not null,
    ciphertext bytea not null,
    version integer not null,
    deleted boolean not null default false,
    updated_at timestamptz not null default now(),
    primary key (user_id, record_id)
  )`);
await pool.query(
  "create index if not exists sync_records_cursor on sync_records (user_id, updated_at)",
);

// Tokens like those of an authentication service: RS256, verified at every request with a local key.
const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });

function mint(user) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 24 * 3600;
  const payload = `${part({ alg: "RS256", typ: "JWT" })}.${part({ sub: user, exp })}`;
  return `${payload}.${createSign("RSA-SHA256").update(payload).sign(privateKey, "base64url")}`;
}

function userOf(request) {
  const [header, claims, signature] = (request.headers.authorization ?? "").slice(7).split(".");
  if (!signature) return null;
  const verify = createVerify("RSA-SHA256").update(`${header}.${claims}`);
  if (!verify.verify(publicKey, signature, "base64url")) return null;
  const { sub, exp } = JSON.parse(Buffer.from(claims, "base64url"));
  return exp > Date.now() / 1000 ? sub : null;
}

async function bodyOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks));
}

async function push(user, { operations }) {
  const results = [];
  const conflicts = [];
  for (const { recordId, baseVersion, ciphertext, deleted } of operations) {
    const { rows } = await pool.query(
      `SELECT version, ciphertext, deleted, updated_at FROM sync_records
       WHERE user_id = $1 AND record_id = $2`,
      [user, recordId],
    );
    const current = rows[0];
    const bytes = Buffer.from(ciphertext, "base64");
    if (!current) {
      await pool.query(
        `INSERT INTO sync_records (user_id, record_id, ciphertext, version, deleted, updated_at)
         VALUES ($1, $2, $3, 1, $4, NOW())`,
        [user, recordId, bytes, deleted],
      );
      results.push({ recordId, version: 1 });
    } else if (current.version === baseVersion) {
      await pool.query(
        `UPDATE sync_records SET ciphertext = $3, version = $4, deleted = $5, updated_at = NOW()
         WHERE user_id = $1 AND record_id = $2`,
        [user, recordId, bytes, baseVersion + 1, deleted],
      );
      results.push({ recordId, version: baseVersion + 1 });
    } else {
      conflicts.push({
        recordId,
        currentVersion: current.version,
        ciphertext: current.ciphertext.toString("base64"),
        deleted: current.deleted,
        updated_at: current.updated_at,
      });
    }
  }
  if (conflicts.length > 0) return [409, { success: false, conflicts }];
  return [200, { success: true, results }];
}

async function pull(user, cursor) {
  const { rows } = await pool.query(
    `SELECT record_id, ciphertext, version, deleted, updated_at FROM sync_records
     WHERE user_id = $1 AND updated_at > $2 ORDER BY updated_at LIMIT ${PAGE_RECORDS}`,
    [user, cursor ? new Date(cursor) : new Date(0)],
  );
  const records = rows.map((row) => ({
    recordId: row.record_id,
    ciphertext: row.ciphertext.toString("base64"),
    version: row.version,
    deleted: row.deleted,
    updated_at: row.updated_at,
  }));
  const nextCursor = records.length > 0 ? records[records.length - 1].updated_at : null;
  return [200, { records, nextCursor, hasMore: records.length === PAGE_RECORDS }];
}

async function respond(request) {
  const url = new URL(request.url, "http://localhost");
  // Only for the load generator.
  if (url.pathname === "/token") return [200, { token: mint(url.searchParams.get("user")) }];
  const user = userOf(request);
  if (!user) return [401, { error: "Unauthorized" }];
  if (request.method === "POST" && url.pathname === "/api/sync/push") {
    return push(user, await bodyOf(request));
  }
  if (request.method === "GET" && url.pathname === "/api/sync/pull") {
    return pull(user, url.searchParams.get("cursor"));
  }
  return [404, { error: "Not found" }];
}

const server = createServer(async (request, response) => {
  let status, value;
  try {
    [status, value] = await respond(request);
  } catch (error) {
    console.error(error);
    [status, value] = [500, { error: "Internal server error" }];
  }
  const body = Buffer.from(JSON.stringify(value));
  response.writeHead(status, { "Content-Type": "application/json", "Content-Length": body.length });
  response.end(body);
});

server.listen(0, "127.0.0.1", () => console.log(server.address().port));
