// An echo server with Node's `ws`: node server.cjs OPTIONS, as JSON. Ends with its standard input.
// Prints a line of JSON once it listens, and one for everything that happens on a connection.
"use strict";

const { WebSocketServer } = require("ws");

const { deflate = false, protocol = null } = JSON.parse(process.argv[2] || "{}");
const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

const server = new WebSocketServer({
  host: "127.0.0.1",
  port: 0,
  maxPayload: 16 << 20,
  perMessageDeflate: deflate ? { threshold: 0 } : false,
  handleProtocols: (offered) => (offered.has(protocol) ? protocol : false),
});

server.on("listening", () => say({ port: server.address().port }));
server.on("connection", (ws) => {
  ws.on("message", (data, isBinary) => {
    const text = isBinary ? "" : data.toString();
    if (text.startsWith("close ")) {
      const [, code, ...reason] = text.split(" ");
      ws.close(Number(code), reason.join(" "));
    } else if (text === "ping") {
      ws.ping("hello");
    } else if (text === "drop") {
      ws.terminate();
    } else {
      ws.send(data, { binary: isBinary });
    }
  });
  ws.on("pong", (data) => ws.send(`pong ${data}`));
  ws.on("error", (error) => say({ error: error.message }));
  ws.on("close", (code, reason) => say({ close: code, reason: reason.toString() }));
});

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
