// A proxy as apps have it in Node: it compresses responses, and sends the headers of a response with the first
// bytes of its body. Next.js has both in `rewrites()`.
//
// The argument is the URL of the server. The port it listens on is printed.

import { request } from "node:http";
import compression from "compression";
import express from "express";

const [server] = process.argv.slice(2);

const app = express();
app.use(compression());
app.use((incoming, outgoing) => {
  const { method, originalUrl } = incoming;
  // Replaces the header, so that a client cannot choose its own address.
  const headers = { ...incoming.headers, "x-forwarded-for": incoming.socket.remoteAddress };
  const forwarded = request(new URL(originalUrl, server), { method, headers }, (response) => {
    outgoing.statusCode = response.statusCode;
    for (const [name, value] of Object.entries(response.headers)) outgoing.setHeader(name, value);
    response.pipe(outgoing);
  });
  forwarded.on("error", () => outgoing.destroy());
  outgoing.on("close", () => forwarded.destroy());
  incoming.pipe(forwarded);
});

const listener = app.listen(0, "127.0.0.1", () => console.log(listener.address().port));
