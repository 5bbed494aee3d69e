// A client with Java's own HttpClient: java EchoClient.java URI STEP...
// Takes the steps one after the other and prints a line, its result, for each; a step that fails ends it.
//
//   open:SUBPROTOCOL,...   an opening handshake            the subprotocol chosen, or the status of a refusal
//   text:LENGTH, binary:LENGTH   a message to be echoed    "same" if it comes back as it was
//   fragments:LENGTH       both, each in five fragments    "same", too
//   say:TEXT               a text message                  the text that answers it
//   ping:DATA              a ping                          what the pong says
//   pinged                                                 how many pings have come on this connection
//   parts                                                  how many deliveries were not a message's last
//   close:CODE:REASON      a Close                         the code and the reason of the peer's
//   closed                 wait for the peer's Close       its code and reason

import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.net.http.WebSocketHandshakeException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

public final class EchoClient {
    private static final int SECONDS = 30;

    /** Puts messages together from the parts in which they are delivered, and queues everything that comes. */
    private static final class Listener implements WebSocket.Listener {
        final BlockingQueue<Object> events = new LinkedBlockingQueue<>();
        final AtomicInteger pings = new AtomicInteger();
        final AtomicInteger parts = new AtomicInteger();
        private final StringBuilder text = new StringBuilder();
        private ByteBuffer binary = ByteBuffer.allocate(4 << 20);

        @Override
        public CompletionStage<?> onText(WebSocket ws, CharSequence data, boolean last) {
            text.append(data);
            if (!last) {
                parts.incrementAndGet();
            } else {
                events.add(text.toString());
                text.setLength(0);
            }
            ws.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onBinary(WebSocket ws, ByteBuffer data, boolean last) {
            binary.put(data);
            if (!last) {
                parts.incrementAndGet();
            } else {
                events.add(binary.flip());
                binary = ByteBuffer.allocate(4 << 20);
            }
            ws.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onPing(WebSocket ws, ByteBuffer message) {
            pings.incrementAndGet();
            ws.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onPong(WebSocket ws, ByteBuffer message) {
            events.add("pong " + StandardCharsets.UTF_8.decode(message));
            ws.request(1);
            return null;
        }

        @Override
        public CompletionStage<?> onClose(WebSocket ws, int code, String reason) {
            events.add(code + " " + reason);
            return null;
        }

        @Override
        public void onError(WebSocket ws, Throwable error) {
            events.add(error);
        }
    }

    private final HttpClient client = HttpClient.newHttpClient();
    private final URI uri;
    private Listener listener;
    private WebSocket ws;

    private EchoClient(String uri) {
        this.uri = URI.create(uri);
    }

    public static void main(String[] arguments) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        EchoClient echo = new EchoClient(arguments[0]);
        for (int i = 1; i < arguments.length; i++) {
            String[] words = arguments[i].split(":", 2);
            out.println(echo.step(words[0], words.length > 1 ? words[1] : ""));
        }
        System.exit(0);
    }

    private String step(String name, String argument) throws Exception {
        switch (name) {
            case "open":
                return open(argument);
            case "text":
                String whole = text(Integer.parseInt(argument));
                done(ws.sendText(whole, true));
                return same(whole);
            case "binary":
                ByteBuffer bytes = binary(Integer.parseInt(argument));
                done(ws.sendBinary(bytes.duplicate(), true));
                return same(bytes);
            case "fragments":
                return fragments(Integer.parseInt(argument));
            case "say":
                done(ws.sendText(argument, true));
                return event().toString();
            case "ping":
                done(ws.sendPing(StandardCharsets.UTF_8.encode(argument)));
                return event().toString();
            case "pinged":
                return listener.pings.toString();
            case "parts":
                return listener.parts.toString();
            case "close":
                String[] words = argument.split(":", 2);
                done(ws.sendClose(Integer.parseInt(words[0]), words[1]));
                return event().toString();
            case "closed":
                return event().toString();
            default:
                throw new IllegalArgumentException(name);
        }
    }

    private String open(String subprotocols) throws Exception {
        WebSocket.Builder builder = client.newWebSocketBuilder();
        if (!subprotocols.isEmpty()) {
            String[] names = subprotocols.split(",");
            String[] others = new String[names.length - 1];
            System.arraycopy(names, 1, others, 0, others.length);
            builder.subprotocols(names[0], others);
        }
        listener = new Listener();
        try {
            ws = builder.buildAsync(uri, listener).orTimeout(SECONDS, TimeUnit.SECONDS).join();
        } catch (CompletionException failure) {
            if (failure.getCause() instanceof WebSocketHandshakeException) {
                return "refused " + ((WebSocketHandshakeException) failure.getCause()).getResponse().statusCode();
            }
            throw failure;
        }
        return ws.getSubprotocol();
    }

    private String fragments(int length) throws Exception {
        String text = text(length);
        ByteBuffer binary = binary(length);
        for (int part = 0; part < 5; part++) {
            int start = text.length() * part / 5;
            int end = text.length() * (part + 1) / 5;
            done(ws.sendText(text.substring(start, end), part == 4));
        }
        String result = same(text);
        for (int part = 0; part < 5; part++) {
            int start = length * part / 5;
            int end = length * (part + 1) / 5;
            done(ws.sendBinary(binary.slice(start, end - start), part == 4));
        }
        return result.equals("same") ? same(binary) : result;
    }

    private static void done(CompletableFuture<WebSocket> sending) throws Exception {
        sending.get(SECONDS, TimeUnit.SECONDS);
    }

    private Object event() throws Exception {
        Object event = listener.events.poll(SECONDS, TimeUnit.SECONDS);
        if (event == null) {
            throw new IllegalStateException("nothing comes");
        }
        if (event instanceof Throwable) {
            throw new IllegalStateException((Throwable) event);
        }
        return event;
    }

    private String same(Object sent) throws Exception {
        Object event = event();
        return event.equals(sent) ? "same" : "other: " + event.toString().length();
    }

    /** So many bytes of UTF-8, with characters of up to three. */
    private static String text(int length) {
        return "\u00e9\u2603x".repeat(length / 6) + "y".repeat(length % 6);
    }

    private static ByteBuffer binary(int length) {
        ByteBuffer data = ByteBuffer.allocate(length);
        for (int i = 0; i < length; i++) {
            data.put((byte) (i * 7));
        }
        return data.flip();
    }
}
