// A client with Node's `ws`: node client.cjs URI OPTIONS, the latter as JSON.
// Sends messages of all the sizes, expects them back, pings, closes (or waits to be closed), and prints what it saw
// as one line of JSON.
"use strict";

const { WebSocket } = require("ws");

const [uri, json] = process.argv.slice(2);
const { deflate = false, protocols = [], sizes = [], close = null, reason = "", ca = null, bad = null } = JSON.parse(json);
const seen = { echoed: 0, wrong: 0, pong: null, pinged: 0, error: null };

const ws = new WebSocket(uri, protocols, {
  perMessageDeflate: deflate ? { threshold: 0 } : false,
  maxPayload: 16 << 20,
  ...(ca === null ? {} : { ca }),
});
const messages = sizes.flatMap((size) => [
  "é☃x".repeat(Math.ceil(size / 6)),
  Buffer.alloc(size, Buffer.from([0, 255, 1, 128, 7])),
]);

function next() {
  if (seen.echoed < messages.length) {
    ws.send(messages[seen.echoed]);
  } else if (seen.pong === null) {
    ws.ping("hello");
  } else if (bad !== null) {
    ws._socket.write(Buffer.from(bad, "hex"));
  } else if (close !== null) {
    ws.close(close, reason);
  }
}

ws.on("open", () => {
  seen.protocol = ws.protocol;
  seen.extensions = ws.extensions;
  next();
});
ws.on("message", (data, isBinary) => {
  const expected = messages[seen.echoed];
  const same = isBinary ? Buffer.isBuffer(expected) && data.equals(expected) : data.toString() === expected;
  seen.wrong += same ? 0 : 1;
  seen.echoed += 1;
  next();
});
ws.on("pong", (data) => {
  seen.pong = data.toString();
  next();
});
ws.on("ping", () => (seen.pinged += 1));
ws.on("error", (error) => (seen.error = error.message));
ws.on("close", (code, text) => {
  console.log(JSON.stringify({ ...seen, close: code, reason: text.toString() }));
});
