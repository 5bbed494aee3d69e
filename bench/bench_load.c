/* The load generator: WebSocket clients in one thread, which cost as little as can be beside the server they measure.
 *
 *   bench_load PORT PID KEY=VALUE...
 *
 * It opens connections to 127.0.0.1:PORT, sends messages, and checks what comes back: first, while everything warms up,
 * every byte of every echo; then, while it measures, their number, kinds and lengths. The CPU time of the process PID,
 * its kernel time included, is read while nothing is on the way, before and after. What to do:
 *
 *   connections=N   open connections                   active=N     of them have messages on the way (default: all)
 *   size=BYTES      payload of a message               inflight=N   messages sent at once on each active one
 *   warm_ms=MS      how long the checked part takes    ms=MS        how long the measured part takes, and at least
 *   least=N         so many messages in each           timeout=S    give up when nothing happens for so long
 *   core=N          run on that core                   spin=1       do not sleep: waking up would cost the server
 *   raw=1           no handshakes: the server sends back what it gets      tls=1   wss, with any certificate
 *   opens=N         measure opening and closing instead, N at a time
 *   hold=N,N,...    open so many, say so, wait for a line on stdin, and go on
 *   used=1          with hold: one message goes there and back on each     deflate=1  compressed; offers deflate
 *
 * It prints lines of JSON: {"cpu_ns", "wall_ns", "messages", ...}, {"held": N}, or {"wrong": why}, with exit status 1.
 */

#define _GNU_SOURCE
#include "bench_common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#endif

enum { RECEIVE = 256 << 10, EVENTS = 512, MAX_HEAD = 16 << 10, MOST_DISTINCT = 128, OPENING_AT_ONCE = 64 };

static struct {
    long connections, active, inflight, size, warm_ms, ms, least, timeout, raw, tls, opens, used, deflate, core, spin;
    const char *hold;
} options = {.connections = 1, .active = -1, .inflight = 1, .size = 32, .ms = 100, .least = 1, .timeout = 30,
             .core = -1};

enum state { UNUSED, CONNECTING, SECURING, REQUESTING, OPEN, CLOSING, CLOSED };

struct connection {
    int fd;
    enum state state;
    bool writing;
    uint64_t due, sent;         /* bytes of the stream of frames: to be sent, and sent */
    uint64_t answered;          /* whole messages that came back */
    uint8_t header[14];         /* of the frame that is being received */
    int header_size;
    uint64_t left, of_message;  /* payload bytes: of the frame yet to come, of the message so far */
    uint8_t opcode;
    bool final, inside;         /* the frame ends its message; the next data frame continues one */
    uint8_t control[125];       /* payload of a control frame */
    size_t control_size;
    uint8_t *reply;             /* a pong or Close frame that the system did not take */
    size_t reply_size, reply_at;
    char *head;                 /* the response so far */
    size_t head_size;
#ifdef WITH_TLS
    SSL *tls;
#endif
};

static int poller, pid;
static struct sockaddr_in address = {.sin_family = AF_INET};
static struct connection *connections;
static uint8_t received[RECEIVE];

/* The frames that are sent, over and over: all of one size, with different payloads and masking keys. They lie there
 * twice, one behind the other, so that any part as long as all of them is in one piece. */
static uint8_t *frames;
static uint8_t *payloads;
static size_t distinct, frame_size, payload_size;

static bool sending, checking, measuring_opens;
static uint64_t answers;
static long opening, opened, closed, opens_done;
static int64_t last_progress;

#ifdef WITH_TLS
static SSL_CTX *tls_context;
#endif

/* --- the stream of frames ---------------------------------------------------------------------------------- */

static uint64_t random_state = 0x9e3779b97f4a7c15;

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* What deflate makes of 1 KiB of JSON-like text: a stored block without BFINAL, and the empty block of which the last
 * four bytes are not sent (RFC 7692 s7.2.1). Whoever inflates it cannot tell that from any other compressed message. */
static size_t put_stored(uint8_t *to, const uint8_t *text, size_t size)
{
    to[0] = 0;
    to[1] = (uint8_t)size, to[2] = (uint8_t)(size >> 8);
    to[3] = (uint8_t)~size, to[4] = (uint8_t)(~size >> 8);
    memcpy(to + 5, text, size);
    to[5 + size] = 0;
    return size + 6;
}

static void make_frames(void)
{
    size_t size = (size_t)options.size;
    payload_size = options.deflate ? size + 6 : size;
    frame_size = payload_size + (payload_size < 126 ? 6 : payload_size < 65536 ? 8 : 14);
    distinct = RECEIVE / frame_size;
    distinct = distinct < 2 ? 2 : distinct > MOST_DISTINCT ? MOST_DISTINCT : distinct;
    frames = allocate(2 * distinct * frame_size);
    payloads = allocate(distinct * payload_size);
    uint8_t *text = allocate(size + 32);
    for (size_t number = 0; number < distinct; number++) {
        for (size_t i = 0; i < size; i++)
            text[i] = (uint8_t)(' ' + next_random() % 95);
        char label[24];
        int written = snprintf(label, sizeof label, "%zu ", number);
        memcpy(text, label, (size_t)written < size ? (size_t)written : size);
        uint8_t *frame = frames + number * frame_size, *payload = payloads + number * payload_size, key[4];
        if (options.deflate)
            put_stored(payload, text, size);
        else
            memcpy(payload, text, size);
        size_t header = put_header(frame, options.deflate ? 0xc1 : 0x81, 0x80, payload_size);
        uint64_t random = next_random();
        memcpy(key, &random, 4);
        memcpy(frame + header, key, 4);
        for (size_t i = 0; i < payload_size; i++)
            frame[header + 4 + i] = payload[i] ^ key[i % 4];
    }
    memcpy(frames + distinct * frame_size, frames, distinct * frame_size);
    free(text);
}

/* --- bytes in and out -------------------------------------------------------------------------------------- */

static void progress(void) { last_progress = now_ns(); }

static ssize_t take(struct connection *c, void *to, size_t room)
{
#ifdef WITH_TLS
    if (c->tls) {
        ERR_clear_error();
        int got = SSL_read(c->tls, to, room > 1 << 30 ? 1 << 30 : (int)room);
        if (got > 0)
            return got;
        int error = SSL_get_error(c->tls, got);
        if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
            errno = EAGAIN;
            return -1;
        }
        /* Whoever ends without close_notify has ended, too. */
        return 0;
    }
#endif
    return recv(c->fd, to, room, 0);
}

static ssize_t give(struct connection *c, const void *from, size_t size)
{
#ifdef WITH_TLS
    if (c->tls) {
        ERR_clear_error();
        int sent = SSL_write(c->tls, from, size > 1 << 30 ? 1 << 30 : (int)size);
        if (sent > 0)
            return sent;
        int error = SSL_get_error(c->tls, sent);
        errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
        return -1;
    }
#endif
    return send(c->fd, from, size, MSG_NOSIGNAL);
}

static void watch(struct connection *c, bool writing)
{
    if (c->writing == writing)
        return;
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.ptr = c};
    c->writing = writing;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

/* Send what is due, or as much of it as the system takes. Control frames go between two messages. */
static void flush(struct connection *c)
{
    size_t whole = distinct * frame_size;
    for (;;) {
        bool reply = c->reply && c->sent % frame_size == 0;
        size_t size = reply ? c->reply_size - c->reply_at : c->due - c->sent;
        if (!reply && c->reply && size > frame_size - c->sent % frame_size)
            size = frame_size - c->sent % frame_size;
        if (size > whole)
            size = whole;
        if (!size)
            break;
        ssize_t sent = give(c, reply ? c->reply + c->reply_at : frames + c->sent % whole, size);
        if (sent < 0) {
            if (errno != EAGAIN)
                fail("the server ended a connection: %s", strerror(errno));
            watch(c, true);
            return;
        }
        if (!reply) {
            c->sent += (uint64_t)sent;
        } else if ((c->reply_at += (size_t)sent) == c->reply_size) {
            free(c->reply);
            c->reply = NULL;
        }
    }
    watch(c, false);
}

static void reply_with(struct connection *c, uint8_t opcode, const uint8_t *payload, size_t size)
{
    /* A second one before the first is gone has been overtaken: only the last ping must be answered (s5.5.3). */
    if (c->reply && c->reply_at)
        return;
    free(c->reply);
    c->reply = allocate(size + 6);
    /* The masking key is 0 0 0 0: nobody but our own server is listening. */
    size_t header = put_header(c->reply, 0x80 | opcode, 0x80, size);
    memset(c->reply + header, 0, 4);
    if (size)
        memcpy(c->reply + header + 4, payload, size);
    c->reply_size = header + 4 + size;
    c->reply_at = 0;
    flush(c);
}

/* --- what comes back --------------------------------------------------------------------------------------- */

static void message_ended(struct connection *c)
{
    if (options.deflate ? c->of_message == 0 : c->of_message != payload_size)
        fail("an echo has %llu bytes, not %zu", (unsigned long long)c->of_message, payload_size);
    c->answered++;
    c->of_message = 0;
    answers++;
    /* The next ones go out together, when all are back: what is on the way does not depend on who was faster. */
    if (sending && c->answered * frame_size == c->due)
        c->due += frame_size * (uint64_t)options.inflight;
}

static void got_payload(struct connection *c, const uint8_t *data, size_t size)
{
    if (c->opcode >= 8) {
        memcpy(c->control + c->control_size, data, size);
        c->control_size += size;
        return;
    }
    if (!options.deflate && c->of_message + size > payload_size)
        fail("an echo is longer than its message");
    if (checking && !options.deflate &&
        memcmp(payloads + c->answered % distinct * payload_size + c->of_message, data, size))
        fail("an echo has other bytes than its message");
    c->of_message += size;
}

static void frame_ended(struct connection *c)
{
    c->header_size = 0;
    if (c->opcode < 8) {
        if (c->final)
            message_ended(c);
    } else if (c->opcode == 9) {
        if (c->state == OPEN)
            reply_with(c, 10, c->control, c->control_size);
    } else if (c->opcode == 8 && c->state != CLOSING) {
        unsigned code = c->control_size >= 2 ? (unsigned)big_endian(c->control, 2) : 1005;
        fail("the server closed a connection with %u", code);
    }
}

/* Whether the header is whole now, with what comes with it. */
static bool header_ended(struct connection *c)
{
    int extended = (c->header[1] & 127) == 126 ? 2 : (c->header[1] & 127) == 127 ? 8 : 0;
    if (c->header_size < 2 + extended)
        return false;
    uint8_t opcode = c->header[0] & 15;
    c->left = extended ? big_endian(c->header + 2, extended) : c->header[1] & 127;
    if (c->header[1] & 0x80)
        fail("the server sent a masked frame");
    if (opcode >= 8 ? opcode > 10 || c->left > 125 : opcode != !c->inside)
        fail("the server sent a frame that is no echo: opcode %u, %llu bytes", opcode, (unsigned long long)c->left);
    if (c->header[0] & (options.deflate ? 0x30 : 0x70))
        fail("the server set a reserved bit");
    if (opcode < 8 && (c->answered + 1) * frame_size > c->sent)
        fail("there are more echoes than messages");
    c->opcode = opcode;
    c->control_size = 0;
    if (opcode < 8) {
        c->final = c->header[0] & 0x80;
        c->inside = !c->final;
    }
    return true;
}

static void got(struct connection *c, const uint8_t *data, size_t size)
{
    if (options.raw) {
        if (c->answered * frame_size + c->of_message + size > c->sent)
            fail("there are more echoes than messages");
        while (size) {
            size_t now = frame_size - c->of_message < size ? frame_size - c->of_message : size;
            if (checking && memcmp(frames + c->answered % distinct * frame_size + c->of_message, data, now))
                fail("an echo has other bytes than its message");
            c->of_message += now;
            data += now;
            size -= now;
            if (c->of_message == frame_size) {
                c->of_message = payload_size;
                message_ended(c);
            }
        }
        return;
    }
    while (size) {
        if (c->left) {
            size_t now = c->left < size ? c->left : size;
            got_payload(c, data, now);
            data += now;
            size -= now;
            c->left -= now;
            if (!c->left)
                frame_ended(c);
            continue;
        }
        c->header[c->header_size++] = *data++;
        size--;
        if (c->header_size >= 2 && header_ended(c) && !c->left)
            frame_ended(c);
    }
}

/* --- opening and closing ----------------------------------------------------------------------------------- */

static void start(struct connection *c)
{
    int on = 1;
    memset(c, 0, sizeof *c);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        fail("cannot open a socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        fail("cannot connect: %s", strerror(errno));
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
    c->writing = true;
    c->state = CONNECTING;
    opening++;
}

static void is_open(struct connection *c)
{
    c->state = OPEN;
    opening--;
    opened++;
    free(c->head);
    c->head = NULL;
    if (options.used && !options.raw)
        c->due += frame_size;
    flush(c);
}

static void request(struct connection *c)
{
    if (options.raw) {
        /* The system connects before the server knows of it, and drops what is too much for its queue: so an echo
         * has to say that the server is there. */
        c->state = REQUESTING;
        c->due = frame_size;
        flush(c);
        return;
    }
    char text[512];
    int size = snprintf(text, sizeof text,
                        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n",
                        ntohs(address.sin_port),
                        options.deflate ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
    if (give(c, text, (size_t)size) != size)
        fail("cannot send the opening handshake");
    c->head = allocate(MAX_HEAD);
    c->state = REQUESTING;
    watch(c, false);
}

static void connected(struct connection *c)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        fail("cannot connect: %s", strerror(error));
#ifdef WITH_TLS
    if (options.tls) {
        if (!(c->tls = SSL_new(tls_context)) || !SSL_set_fd(c->tls, c->fd))
            fail("OpenSSL gives no connection");
        SSL_set_connect_state(c->tls);
        c->state = SECURING;
        return;
    }
#endif
    request(c);
}

static void secure(struct connection *c)
{
#ifdef WITH_TLS
    ERR_clear_error();
    int done = SSL_do_handshake(c->tls);
    int error = done == 1 ? 0 : SSL_get_error(c->tls, done);
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        watch(c, error == SSL_ERROR_WANT_WRITE);
        return;
    }
    if (error)
        fail("the TLS handshake failed");
    request(c);
#else
    (void)c;
#endif
}

static void start_closing(struct connection *c)
{
    if (options.raw) {
        shutdown(c->fd, SHUT_WR);
        c->state = CLOSING;
        return;
    }
    static const uint8_t normal[2] = {1000 >> 8, 1000 & 255};
    c->state = CLOSING;
    reply_with(c, 8, normal, 2);
}

static void is_closed(struct connection *c)
{
#ifdef WITH_TLS
    if (c->tls)
        SSL_free(c->tls);
    c->tls = NULL;
#endif
    close(c->fd);
    free(c->reply);
    c->reply = NULL;
    c->state = CLOSED;
    closed++;
    if (measuring_opens) {
        opens_done++;
        if (sending)
            start(c);
    }
}

/* The response to the opening handshake, and what came with it. */
static void got_head(struct connection *c, const uint8_t *data, size_t size)
{
    size_t room = MAX_HEAD - 1 - c->head_size, used = size < room ? size : room;
    memcpy(c->head + c->head_size, data, used);
    c->head_size += used;
    c->head[c->head_size] = 0;
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end) {
        if (used < size)
            fail("the response has no end");
        return;
    }
    /* What belongs to the key that everybody uses (RFC 6455 s1.3). */
    if (strncmp(c->head, "HTTP/1.1 101 ", 13) || !strstr(c->head, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")) {
        c->head[strcspn(c->head, "\r\"\\")] = 0;
        fail("the server refused: %.60s", c->head);
    }
    char *extensions = strcasestr(c->head, "\r\nSec-WebSocket-Extensions:");
    if (!!extensions != !!options.deflate)
        fail(extensions ? "the server agreed to an extension unasked" : "unsupported: it agreed to no compression");
    size_t rest = c->head_size - (size_t)(end + 4 - c->head) + (size - used);
    is_open(c);
    if (rest)
        got(c, data + size - rest, rest);
    if (measuring_opens)
        start_closing(c);
}

static void readable(struct connection *c)
{
    for (;;) {
        ssize_t size = take(c, received, sizeof received);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size <= 0) {
            if (c->state != CLOSING)
                fail("the server ended a connection: %s", size ? strerror(errno) : "end of file");
            is_closed(c);
            return;
        }
        if (c->state == REQUESTING && !options.raw)
            got_head(c, received, (size_t)size);
        else
            got(c, received, (size_t)size);
        if (c->state == REQUESTING && options.raw && c->answered)
            is_open(c);
        if (c->state == OPEN)
            flush(c);
        /* Where it is not full there is no more, but for what TLS holds back. */
        if (size < (ssize_t)sizeof received && !options.tls)
            return;
    }
}

/* --- turning ----------------------------------------------------------------------------------------------- */

/* Wait for something to happen, and do what follows from it. */
static void turn(int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(poller, events, EVENTS, options.spin ? 0 : timeout_ms);
    if (count < 0 && errno != EINTR)
        fail("epoll_wait: %s", strerror(errno));
    if (count > 0)
        progress();
    else if (now_ns() - last_progress > options.timeout * 1000000000)
        fail("nothing happened for %ld s", options.timeout);
    for (int i = 0; i < count; i++) {
        struct connection *c = events[i].data.ptr;
        if (!c)
            continue;
        if (c->state == CONNECTING)
            connected(c);
        if (c->state == SECURING) {
            secure(c);
            continue;
        }
        if (events[i].events & EPOLLOUT && c->state >= REQUESTING && c->state < CLOSED)
            flush(c);
        if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->state != CLOSED)
            readable(c);
    }
}

static void open_up_to(long count)
{
    long started = opened;
    while (opened < count) {
        while (started < count && opening < OPENING_AT_ONCE)
            start(&connections[started++]);
        turn(100);
    }
}

static void close_all(void)
{
    int64_t until = now_ns() + 2000000000;
    for (long i = 0; i < opened; i++)
        if (connections[i].state == OPEN)
            start_closing(&connections[i]);
    while (closed < opened && now_ns() < until)
        turn(100);
}

/* CPU time of the process in nanoseconds: of all its threads, ended ones too, in user mode and in the kernel. It is the
 * sum of what /proc/PID/task/TID/schedstat says of each thread, and of those that are no more. */
static int64_t cpu_ns(void)
{
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &time))
        fail("the server is gone");
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Long enough for the server to find that there is nothing to do, and to go to sleep. */
static void rest(void)
{
    struct timespec pause = {.tv_nsec = 3000000};
    nanosleep(&pause, NULL);
}

/* Send messages on the active connections for so long, and wait until all are back; return how many. */
static uint64_t echo(long ms, uint64_t least)
{
    uint64_t before = answers, sent = 0;
    int64_t until = now_ns() + ms * 1000000;
    sending = true;
    progress();
    for (long i = 0; i < options.active; i++) {
        connections[i].due += frame_size * (uint64_t)options.inflight;
        flush(&connections[i]);
    }
    while (sending || answers < before + sent) {
        turn(100);
        if (sending && answers - before >= least && now_ns() >= until) {
            sending = false;
            uint64_t due = 0;
            for (long i = 0; i < options.active; i++)
                due += connections[i].due / frame_size - connections[i].answered;
            sent = answers - before + due;
        }
    }
    return answers - before;
}

static void report(int64_t cpu, int64_t wall, uint64_t messages)
{
    printf("{\"cpu_ns\": %lld, \"wall_ns\": %lld, \"messages\": %llu}\n", (long long)cpu, (long long)wall,
           (unsigned long long)messages);
    fflush(stdout);
}

static void measure_echoes(void)
{
    open_up_to(options.connections);
    checking = true;
    /* Once around, so that every payload was there and back. */
    uint64_t least = distinct > (uint64_t)options.least ? distinct : (uint64_t)options.least;
    echo(options.warm_ms, options.raw || options.size < 65536 ? least : (uint64_t)options.least);
    checking = false;
    rest();
    int64_t cpu = cpu_ns(), wall = now_ns();
    uint64_t messages = echo(options.ms, (uint64_t)options.least);
    wall = now_ns() - wall;
    rest();
    report(cpu_ns() - cpu, wall, messages);
    close_all();
}

static long open_and_close(long ms, long least)
{
    int64_t until = now_ns() + ms * 1000000;
    opens_done = 0;
    sending = true;
    for (long i = 0; i < options.opens; i++)
        start(&connections[i]);
    while (sending || opening || closed < opened) {
        turn(100);
        if (opens_done >= least && now_ns() >= until)
            sending = false;
    }
    return opens_done;
}

static void measure_opens(void)
{
    measuring_opens = true;
    open_and_close(options.warm_ms, options.least);
    rest();
    int64_t cpu = cpu_ns(), wall = now_ns();
    long count = open_and_close(options.ms, options.least);
    wall = now_ns() - wall;
    rest();
    report(cpu_ns() - cpu, wall, (uint64_t)count);
}

static void hold(void)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event))
        fail("cannot wait for stdin: %s", strerror(errno));
    checking = true;
    for (const char *at = options.hold; *at; at += *at == ',') {
        long count = strtol(at, (char **)&at, 10);
        open_up_to(count);
        while (options.used && answers < (uint64_t)count)
            turn(100);
        rest();
        printf("{\"held\": %ld}\n", count);
        fflush(stdout);
        /* Pings are answered meanwhile. */
        char byte = 0;
        while (byte != '\n') {
            struct epoll_event events[EVENTS];
            int ready = epoll_wait(poller, events, EVENTS, -1);
            for (int i = 0; i < ready; i++) {
                if (events[i].data.ptr)
                    readable(events[i].data.ptr);
                else if (read(0, &byte, 1) <= 0)
                    exit(0);
            }
        }
        progress();
    }
    epoll_ctl(poller, EPOLL_CTL_DEL, 0, &event);
    close_all();
}

static void read_options(int count, char **texts)
{
    static const struct {
        const char *name;
        long *value;
    } numbers[] = {
        {"connections", &options.connections}, {"active", &options.active}, {"inflight", &options.inflight},
        {"size", &options.size}, {"warm_ms", &options.warm_ms}, {"ms", &options.ms}, {"least", &options.least},
        {"timeout", &options.timeout}, {"raw", &options.raw}, {"tls", &options.tls}, {"opens", &options.opens},
        {"used", &options.used}, {"deflate", &options.deflate}, {"core", &options.core}, {"spin", &options.spin},
    };
    for (int i = 0; i < count; i++) {
        const char *equals = strchr(texts[i], '=');
        size_t length = equals ? (size_t)(equals - texts[i]) : strlen(texts[i]);
        bool known = false;
        for (size_t n = 0; equals && n < sizeof numbers / sizeof *numbers; n++)
            if (strlen(numbers[n].name) == length && !strncmp(texts[i], numbers[n].name, length)) {
                *numbers[n].value = strtol(equals + 1, NULL, 10);
                known = true;
            }
        if (equals && length == 4 && !strncmp(texts[i], "hold", 4)) {
            options.hold = equals + 1;
            known = true;
        }
        if (!known)
            fail("wrong option %s", texts[i]);
    }
    if (options.active < 0 || options.active > options.connections)
        options.active = options.connections;
}

int main(int count, char **arguments)
{
    if (count < 3)
        fail("wrong usage");
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    pid = atoi(arguments[2]);
    read_options(count - 3, arguments + 3);
    raise_descriptor_limit();
    if (options.core >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET((size_t)options.core, &cores);
        if (sched_setaffinity(0, sizeof cores, &cores))
            fail("cannot run on core %ld: %s", options.core, strerror(errno));
    }
    long most = options.opens > options.connections ? options.opens : options.connections;
    for (const char *at = options.hold ? options.hold : ""; *at; at += *at == ',') {
        long held = strtol(at, (char **)&at, 10);
        most = held > most ? held : most;
        if (*at && *at != ',')
            fail("wrong option hold");
    }
    if (!(connections = calloc((size_t)most, sizeof *connections)))
        fail("out of memory");
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (options.tls) {
#ifdef WITH_TLS
        tls_context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
#else
        fail("compiled without OpenSSL");
#endif
    }
    make_frames();
    progress();
    if (options.hold)
        hold();
    else if (options.opens)
        measure_opens();
    else
        measure_echoes();
    return 0;
}
