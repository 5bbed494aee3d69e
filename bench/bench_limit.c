/* A WebSocket echo server that does as little as can be done: what all others are compared with.
 *
 * One thread, one epoll. All that one read has brought is unmasked and answered in the buffer that it was read into,
 * and the answers leave in one system call. Text is checked to be UTF-8, as every server under test checks it. There
 * is one receive buffer for all connections; one of its own has only a connection in the middle of a message.
 *
 * It knows what the load generator and the clients under test send: frames that are whole messages, ping and Close.
 * Messages are bounded; fragments and wrong frames end the connection.
 *
 * Started without arguments, it prints {"ready": {...}} with its port, and ends with its standard input.
 */

#define _GNU_SOURCE
#include "bench_common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SHARED = 256 << 10, MAX_MESSAGE = 32 << 20, MAX_HEAD = 16 << 10, EVENTS = 256, PIECES = 64 };
/* Shorter answers are moved together, longer ones stay where they are. */
enum { MOVE_BELOW = 4096 };

struct connection {
    int fd;
    bool open;      /* the opening handshake is done */
    bool closing;   /* nothing is read any more; it ends once the output is gone */
    bool writing;   /* epoll tells when there is room */
    uint8_t *in;    /* the beginning of a frame whose end has not come */
    size_t in_size, in_room;
    uint8_t *out;   /* what the system did not take */
    size_t out_at, out_size;
};

static int poller;
static uint8_t shared[SHARED];

/* SHA-1 (RFC 3174) of a short text; only the opening handshake needs it. */
static void sha1(const uint8_t *data, size_t size, uint8_t digest[20])
{
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    uint8_t block[64];
    size_t padded = (size + 8) / 64 * 64 + 64;
    for (size_t at = 0; at < padded; at += 64) {
        for (size_t i = 0; i < 64; i++)
            block[i] = at + i < size ? data[at + i] : at + i == size ? 0x80 : 0;
        if (at + 64 == padded)
            for (int i = 0; i < 8; i++)
                block[56 + i] = (uint8_t)((uint64_t)size * 8 >> 8 * (7 - i));
        uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
        for (int i = 0; i < 80; i++) {
            uint32_t f, k;
            if (i < 16) {
                w[i] = (uint32_t)big_endian(block + 4 * i, 4);
            } else {
                uint32_t x = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
                w[i] = x << 1 | x >> 31;
            }
            if (i < 20)
                f = (b & c) | (~b & d), k = 0x5a827999;
            else if (i < 40)
                f = b ^ c ^ d, k = 0x6ed9eba1;
            else if (i < 60)
                f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
            else
                f = b ^ c ^ d, k = 0xca62c1d6;
            uint32_t next = (a << 5 | a >> 27) + f + e + k + w[i];
            e = d, d = c, c = b << 30 | b >> 2, b = a, a = next;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
    }
    for (int i = 0; i < 20; i++)
        digest[i] = (uint8_t)(state[i / 4] >> 8 * (3 - i % 4));
}

static void base64(const uint8_t *data, size_t size, char *to)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        uint32_t group = (uint32_t)data[i] << 16;
        group |= i + 1 < size ? (uint32_t)data[i + 1] << 8 : 0;
        group |= i + 2 < size ? data[i + 2] : 0;
        *to++ = letters[group >> 18 & 63];
        *to++ = letters[group >> 12 & 63];
        *to++ = i + 1 < size ? letters[group >> 6 & 63] : '=';
        *to++ = i + 2 < size ? letters[group & 63] : '=';
    }
    *to = 0;
}

/* Whether that is UTF-8 as RFC 3629 has it. */
static bool is_utf8(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint8_t first = data[i++];
        if (first < 0x80)
            continue;
        int more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
        uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
        uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
        if (first < 0xc2 || first > 0xf4 || size - i < (size_t)more)
            return false;
        for (; more; more--, low = 0x80, high = 0xbf, i++)
            if (data[i] < low || data[i] > high)
                return false;
    }
    return true;
}

/* Unmask; return whether there was a byte that is not ASCII. The two may overlap where `to` is not behind `from`. */
static bool unmask(uint8_t *to, const uint8_t *from, size_t size, const uint8_t key[4])
{
    uint32_t word;
    uint64_t seen = 0;
    size_t i = 0;
    memcpy(&word, key, 4);
    uint64_t both = (uint64_t)word << 32 | word;
    if (to == from) {
        /* Said twice, so that the compiler need not think of overlaps here, and vectorises. */
        for (; i + 8 <= size; i += 8) {
            uint64_t value;
            memcpy(&value, to + i, 8);
            value ^= both;
            seen |= value;
            memcpy(to + i, &value, 8);
        }
    } else {
        for (; i + 8 <= size; i += 8) {
            uint64_t value;
            memcpy(&value, from + i, 8);
            value ^= both;
            seen |= value;
            memcpy(to + i, &value, 8);
        }
    }
    for (; i < size; i++) {
        to[i] = from[i] ^ key[i % 4];
        seen |= to[i];
    }
    return (seen & 0x8080808080808080) != 0;
}

static void drop(struct connection *c)
{
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void watch(struct connection *c, bool writing)
{
    struct epoll_event event = {.data.ptr = c};
    /* Who does not read his answers is not listened to. */
    event.events = writing ? EPOLLOUT : EPOLLIN;
    c->writing = writing;
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

/* Send, or keep what the system does not take; false when the connection is gone. */
static bool send_pieces(struct connection *c, struct iovec *pieces, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += pieces[i].iov_len;
    ssize_t sent = count == 1 ? send(c->fd, pieces->iov_base, size, MSG_NOSIGNAL) : writev(c->fd, pieces, count);
    if (sent < 0) {
        if (errno != EAGAIN)
            return false;
        sent = 0;
    }
    if ((size_t)sent == size)
        return true;
    c->out = allocate(size - (size_t)sent);
    c->out_at = c->out_size = 0;
    size_t skip = (size_t)sent;
    for (int i = 0; i < count; i++) {
        size_t here = pieces[i].iov_len < skip ? pieces[i].iov_len : skip;
        skip -= here;
        memcpy(c->out + c->out_size, (uint8_t *)pieces[i].iov_base + here, pieces[i].iov_len - here);
        c->out_size += pieces[i].iov_len - here;
    }
    watch(c, true);
    return true;
}

/* Answer the frames in data; return how many bytes were used, or -1 where the connection is to end at once. */
static ssize_t answer_frames(struct connection *c, uint8_t *data, size_t size)
{
    struct iovec pieces[PIECES];
    int count = 0;
    size_t at = 0;
    bool wrong = false;
    while (size - at >= 6 && !c->closing && count < PIECES) {
        uint8_t *frame = data + at, opcode = frame[0] & 15, bits = frame[1] & 127;
        size_t extended = bits == 126 ? 2 : bits == 127 ? 8 : 0, header = 6 + extended;
        if (size - at < header)
            break;
        uint64_t length = extended ? big_endian(frame + 2, (int)extended) : bits;
        if ((frame[0] & 0xf0) != 0x80 || !(frame[1] & 0x80) || length > MAX_MESSAGE ||
            (opcode != 1 && opcode != 2 && opcode < 8) || opcode > 10 || (opcode >= 8 && length > 125)) {
            wrong = true;
            break;
        }
        if (size - at - header < length)
            break;
        at += header + length;
        if (opcode == 10)
            continue;
        uint8_t reply[10], *payload = frame + header, *key = payload - 4;
        size_t short_header = put_header(reply, 0x80 | (opcode == 9 ? 10 : opcode), 0, length);
        bool move = count && length < MOVE_BELOW;
        uint8_t *begin = move ? (uint8_t *)pieces[count - 1].iov_base + pieces[count - 1].iov_len
                              : payload - short_header;
        uint8_t word[4];
        memcpy(word, key, 4); /* the answer may lie over it */
        if (unmask(begin + short_header, payload, length, word) && opcode == 1 &&
            !is_utf8(begin + short_header, length)) {
            wrong = true;
            break;
        }
        memcpy(begin, reply, short_header);
        if (move)
            pieces[count - 1].iov_len += short_header + length;
        else
            pieces[count++] = (struct iovec){begin, short_header + length};
        c->closing = opcode == 8;
    }
    if (count && !send_pieces(c, pieces, count))
        return -1;
    return wrong ? -1 : (ssize_t)at;
}

/* Answer the opening handshake; return how many bytes it had, 0 while it is not whole, -1 for what is none. */
static ssize_t answer_handshake(struct connection *c, const uint8_t *data, size_t size)
{
    static const char name[] = "\r\nSec-WebSocket-Key:", guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const uint8_t *end = memmem(data, size, "\r\n\r\n", 4);
    if (!end)
        return size > MAX_HEAD ? -1 : 0;
    for (const uint8_t *at = data; at + sizeof name < end; at++) {
        if (strncasecmp((const char *)at, name, sizeof name - 1))
            continue;
        at += sizeof name - 1;
        while (*at == ' ')
            at++;
        char text[24 + sizeof guid], accept[32], response[256];
        uint8_t digest[20];
        if (end - at < 24)
            return -1;
        memcpy(text, at, 24);
        memcpy(text + 24, guid, sizeof guid);
        sha1((uint8_t *)text, sizeof text - 1, digest);
        base64(digest, sizeof digest, accept);
        int length = snprintf(response, sizeof response,
                              "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Accept: %s\r\n\r\n",
                              accept);
        struct iovec piece = {response, (size_t)length};
        c->open = true;
        return send_pieces(c, &piece, 1) ? end + 4 - data : -1;
    }
    return -1;
}

/* Use as much as can be used of what was received; false when the connection is to end. */
static bool answer(struct connection *c, uint8_t *data, size_t size, size_t *used)
{
    *used = 0;
    while (*used < size && !c->writing && !c->closing) {
        ssize_t now = c->open ? answer_frames(c, data + *used, size - *used)
                              : answer_handshake(c, data + *used, size - *used);
        if (now < 0)
            return false;
        if (now == 0)
            break;
        *used += (size_t)now;
    }
    return !c->closing || c->writing;
}

/* Keep what could not be used yet, in a buffer that has room for the frame that it begins. */
static void keep(struct connection *c, const uint8_t *data, size_t size)
{
    if (!size) {
        free(c->in);
        c->in = NULL;
        c->in_size = c->in_room = 0;
        return;
    }
    size_t room = size + SHARED;
    if (c->open && size >= 10 && (data[1] & 127) == 127) {
        uint64_t length = big_endian(data + 2, 8);
        if (length <= MAX_MESSAGE && length + 14 > room)
            room = length + 14;
    }
    if (c->in && c->in_room >= room - SHARED / 2) {
        if (data != c->in)
            memmove(c->in, data, size);
    } else {
        uint8_t *larger = allocate(room);
        memcpy(larger, data, size);
        free(c->in);
        c->in = larger;
        c->in_room = room;
    }
    c->in_size = size;
}

static bool readable(struct connection *c)
{
    uint8_t *data = c->in ? c->in : shared;
    size_t room = c->in ? c->in_room : SHARED;
    if (room == c->in_size)
        return false;
    ssize_t got = recv(c->fd, data + c->in_size, room - c->in_size, 0);
    if (got <= 0)
        return got < 0 && errno == EAGAIN;
    size_t size = c->in_size + (size_t)got, used;
    if (!answer(c, data, size, &used))
        return false;
    if (data == shared || used) {
        keep(c, data + used, size - used);
        return true;
    }
    c->in_size = size;
    if (c->in_size == c->in_room || (c->in_room < SHARED * 2 && size >= 10))
        keep(c, data, size);
    return true;
}

static bool writable(struct connection *c)
{
    ssize_t sent = send(c->fd, c->out + c->out_at, c->out_size - c->out_at, MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN;
    c->out_at += (size_t)sent;
    if (c->out_at < c->out_size)
        return true;
    free(c->out);
    c->out = NULL;
    if (c->closing)
        return false;
    watch(c, false);
    size_t used;
    if (!answer(c, c->in, c->in_size, &used))
        return false;
    if (used)
        keep(c, c->in + used, c->in_size - used);
    return true;
}

static void accept_all(int listener)
{
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c)
            fail("out of memory");
        c->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
            fail("epoll_ctl: %s", strerror(errno));
    }
}

int main(void)
{
    raise_descriptor_limit();
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) || listen(listener, 1024) ||
        getsockname(listener, (struct sockaddr *)&address, &length))
        fail("cannot listen: %s", strerror(errno));
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = NULL;
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &event);
    printf("{\"ready\": {\"version\": \"%s\", \"port\": %d}}\n", __VERSION__, ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                char byte;
                if (read(0, &byte, 1) <= 0)
                    return 0;
            } else if (events[i].data.ptr == &listener) {
                accept_all(listener);
            } else if (!(c->writing ? writable(c) : readable(c))) {
                drop(c);
            }
        }
    }
}
