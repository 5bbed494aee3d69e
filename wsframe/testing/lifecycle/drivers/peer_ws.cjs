// Node's `ws` (https://github.com/websockets/ws): a driver of the lifecycle suite, see docs/lifecycle.md.
"use strict";

const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");
const readline = require("node:readline");
const tls = require("node:tls");
const { WebSocket, WebSocketServer } = require("ws");

const KNOWN = ["close_timeout", "compression", "max_message_size", "open_timeout", "ping_interval", "ping_timeout"];
const ESSENTIAL = ["compression", "idle_timeout", "limits", "max_message_size", "ping_interval"];
const ACTS = ["abort", "close", "send", "shutdown"];

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const told = (what, by, over = false) => say({ told: what, by, over });
const describe = (error) => [error.code, error.message].filter(Boolean).join(": ");

let row = null;

class Cannot extends Error {}

function message(data, isBinary) {
  if (data.length > 40) return `message of ${data.length} ${isBinary ? "bytes" : "characters"}`;
  return `message ${isBinary ? "b" : ""}'${data.toString(isBinary ? "latin1" : "utf8")}'`;
}

function listen(ws) {
  row.ws = ws;
  ws.on("message", (data, isBinary) => told(message(data, isBinary), "message"));
  ws.on("error", (error) => told(describe(error), "error"));
  ws.on("close", (code, reason) => told(`${code} '${reason}'`, "close", true));
}

// "How to detect and close broken connections?" in its README.
function keepAlive(ws) {
  const interval = row.settings.ping_interval;
  if (interval == null) return;
  let isAlive = true;
  ws.on("pong", () => (isAlive = true));
  const timer = setInterval(() => {
    if (!isAlive) return ws.terminate();
    isAlive = false;
    ws.ping();
  }, interval * 1000);
  ws.on("close", () => clearInterval(timer));
}

function options() {
  const { settings } = row;
  return {
    perMessageDeflate: Boolean(settings.compression),
    ...(settings.max_message_size == null ? {} : { maxPayload: settings.max_message_size }),
    closeTimeout: (settings.close_timeout ?? row.patience) * 1000,
  };
}

const missing = (name) => (name === "limits" ? Object.keys(row.settings.limits).join(", ") : name);

function start(command) {
  row = { ws: null, server: null, sockets: new Set(), ...command };
  const ignores = Object.keys(row.settings).filter((name) => row.settings[name] != null && !KNOWN.includes(name));
  for (const name of ignores) if (ESSENTIAL.includes(name)) throw new Cannot(`no ${missing(name)}`);
  for (const act of row.acts) if (!ACTS.includes(act)) throw new Cannot(`no ${act}`);
  if (row.role === "client") {
    const ws = new WebSocket(row.uri, {
      ...options(),
      handshakeTimeout: (row.settings.open_timeout ?? row.patience) * 1000,
      ...(row.authority == null ? {} : { ca: fs.readFileSync(row.authority) }),
    });
    listen(ws);
    ws.on("open", () => {
      told("open", "");
      keepAlive(ws);
    });
    return say({ port: null, ignores });
  }
  const pem = row.certificate == null ? null : fs.readFileSync(row.certificate);
  const server = pem === null ? http.createServer({ connectionsCheckingInterval: 50 }) : https.createServer({ cert: pem, key: pem, connectionsCheckingInterval: 50 });
  server.on("connection", (socket) => {
    row.sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => row?.sockets.delete(socket));
  });
  const own = row;
  row.server = server;
  row.webSockets = new WebSocketServer({ noServer: true, ...options() });
  server.on("request", (request, response) => {
    response.writeHead(typeof row.answer === "number" ? row.answer : 426);
    response.end(row.body || "");
  });
  server.on("upgrade", (request, socket, head) => {
    if (row.answer === "nothing") return;
    if (row.answer === "raise") return socket.destroy(new Error("the application fails"));
    if (row.answer != null) {
      return socket.end(`HTTP/1.1 ${row.answer} ${http.STATUS_CODES[row.answer]}\r\nConnection: close\r\n\r\n`);
    }
    own.webSockets.handleUpgrade(request, socket, head, (ws) => {
      listen(ws);
      told("open", "");
      keepAlive(ws);
    });
  });
  const openTimeout = (row.settings.open_timeout ?? row.patience) * 1000;
  server.headersTimeout = openTimeout;
  server.requestTimeout = openTimeout;
  server.listen(0, "127.0.0.1", () => say({ port: server.address().port, ignores }));
}

function send(size, count) {
  // It never waits; an application that minds looks at bufferedAmount.
  for (let sent = 0; count === null ? row.ws.bufferedAmount < 1 << 20 : sent < count; sent += 1) {
    row.ws.send(Buffer.alloc(size));
  }
}

function act(command) {
  if (command.act === "close") row.ws.close(...(command.code === null ? [] : [command.code, command.reason]));
  else if (command.act === "abort") row.ws.terminate();
  else if (command.act === "send") send(command.size, command.count);
  else {
    // As its documentation says: close() leaves the clients alone.
    row.server.close();
    if (row.ws === null) throw new Cannot("close() leaves connections alone");
    row.ws.close(command.code, command.reason);
  }
}

function end() {
  const { ws, server, sockets } = row;
  if (ws !== null) ws.terminate();
  if (server !== null) server.close();
  for (const socket of sockets) socket.destroy();
  setTimeout(() => {
    row = null;
    say({ ended: true });
  }, 20);
}

process.on("uncaughtException", (error) => told(describe(error), "uncaughtException"));
say({
  driver: "ws",
  version: `${require("ws/package.json").version}, node ${process.versions.node}`,
  roles: ["server", "client"],
});
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  try {
    if (command.sync) say({ synced: true });
    else if (command.end) end();
    else if (command.act) {
      act(command);
      say({ acted: true });
    } else start(command);
  } catch (error) {
    if (error instanceof Cannot) say({ cannot: error.message });
    else {
      told(describe(error), `${command.act}()`);
      say({ acted: true });
    }
  }
}).on("close", () => process.exit(0));
