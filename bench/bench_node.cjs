// An echo server with Node's `ws`: node bench_node.cjs [deflate] [tls=DIRECTORY]. Speaks as bench_serve.py does.
"use strict";

const say = (what) => process.stdout.write(JSON.stringify(what) + "\n");

let WebSocketServer, version;
try {
  ({ WebSocketServer } = require("ws"));
  ({ version } = require("ws/package.json"));
} catch {
  say({ missing: "node has no package ws: npm install ws, and set WSFRAME_NODE_PATH to its node_modules" });
  process.exit(0);
}

const options = process.argv.slice(2);
const directory = options.find((option) => option.startsWith("tls="))?.slice(4);
const fs = require("fs");
const server = directory
  ? require("https").createServer({
      cert: fs.readFileSync(`${directory}/cert.pem`),
      key: fs.readFileSync(`${directory}/key.pem`),
    })
  : require("http").createServer();

new WebSocketServer({ server, perMessageDeflate: options.includes("deflate") }).on("connection", (ws) => {
  // A string of its own, as the others make one.
  ws.on("message", (data) => ws.send(data.toString()));
  ws.on("error", () => {});
});
server.listen(0, "127.0.0.1", () =>
  say({ ready: { version, node: process.version, port: server.address().port } }),
);

process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
