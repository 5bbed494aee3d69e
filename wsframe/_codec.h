/* Byte loops of the frame codec: masking (RFC 6455 s5.3), UTF-8 (s8.1), and headers (s5.2). Plain C: the compiler
 * vectorises the XOR loops at -O3, and unaligned eight-byte steps beat hand-made alignment. */
#ifndef WSFRAME_CODEC_H
#define WSFRAME_CODEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WS_HIGH_BITS UINT64_C(0x8080808080808080)

/* The masking key as it lies in memory, so that no byte order comes in. */
static inline uint32_t ws_key(const uint8_t *bytes)
{
    uint32_t key;
    memcpy(&key, bytes, 4);
    return key;
}

/* The key for going on after `taken` bytes of the payload. */
static inline uint32_t ws_key_turn(uint32_t key, size_t taken)
{
    uint8_t bytes[4], turned[4];
    memcpy(bytes, &key, 4);
    for (int i = 0; i < 4; i++)
        turned[i] = bytes[(taken + (size_t)i) & 3];
    return ws_key(turned);
}

/* One step of the XOR loops: 128 bytes. gcc makes too little of a loop over words, with vectors of its own it keeps up
 * with memory; other compilers get the words. */
#if defined(__GNUC__)
typedef uint64_t ws_vector __attribute__((vector_size(32), may_alias, aligned(1)));
#define WS_LANES 4
#else
typedef uint64_t ws_vector;
#define WS_LANES 16
#endif
#define WS_STEP (WS_LANES * sizeof(ws_vector))

/* Not every module that includes this uses everything. */
#if defined(__GNUC__)
#define WS_PERHAPS __attribute__((unused))
#else
#define WS_PERHAPS
#endif

/* Where the C library can choose at load time, the loops exist a second time for CPUs with AVX2. (Its choosing runs
 * before a sanitizer is set up.) */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__)
#define WS_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define WS_CLONES
#endif

/* dst = src XOR key. */
WS_CLONES WS_PERHAPS static void ws_xor(uint8_t *restrict dst, const uint8_t *restrict src, size_t n, uint32_t key)
{
    const uint64_t wide = ((uint64_t)key << 32) | key;
    const ws_vector pattern = (ws_vector){0} ^ wide;
    uint8_t bytes[4];
    size_t i = 0;
    for (; i + WS_STEP <= n; i += WS_STEP) {
        ws_vector lanes[WS_LANES];
        memcpy(lanes, src + i, WS_STEP);
        for (int lane = 0; lane < WS_LANES; lane++)
            lanes[lane] ^= pattern;
        memcpy(dst + i, lanes, WS_STEP);
    }
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, src + i, 8);
        word ^= wide;
        memcpy(dst + i, &word, 8);
    }
    memcpy(bytes, &key, 4);
    for (; i < n; i++)
        dst[i] = src[i] ^ bytes[i & 3];
}

/* The same; non-zero if a result byte has its top bit set, that is, if the result is not all ASCII. */
WS_CLONES WS_PERHAPS static int ws_xor_ascii(uint8_t *restrict dst, const uint8_t *restrict src, size_t n, uint32_t key)
{
    const uint64_t wide = ((uint64_t)key << 32) | key;
    const ws_vector pattern = (ws_vector){0} ^ wide;
    ws_vector seen = (ws_vector){0};
    uint64_t rest = 0, words[sizeof(ws_vector) / 8];
    uint8_t bytes[4];
    size_t i = 0;
    for (; i + WS_STEP <= n; i += WS_STEP) {
        ws_vector lanes[WS_LANES];
        memcpy(lanes, src + i, WS_STEP);
        for (int lane = 0; lane < WS_LANES; lane++) {
            lanes[lane] ^= pattern;
            seen |= lanes[lane];
        }
        memcpy(dst + i, lanes, WS_STEP);
    }
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, src + i, 8);
        word ^= wide;
        rest |= word;
        memcpy(dst + i, &word, 8);
    }
    memcpy(bytes, &key, 4);
    for (; i < n; i++) {
        dst[i] = src[i] ^ bytes[i & 3];
        rest |= dst[i];
    }
    memcpy(words, &seen, sizeof seen);
    for (size_t word = 0; word < sizeof(ws_vector) / 8; word++)
        rest |= words[word];
    return (rest & WS_HIGH_BITS) != 0;
}

/* Where an incremental UTF-8 check stands: how many continuation bytes the current character still needs, and the
 * range of the next one. */
typedef struct {
    uint8_t need, low, high;
} ws_utf8;

/* Go on with n bytes; 0 as soon as one of them cannot be part of valid UTF-8 (RFC 3629 s4: no overlong forms, no
 * surrogates, nothing above U+10FFFF). *whole is where the last whole character ends. */
static inline int ws_utf8_feed(ws_utf8 *state, const uint8_t *data, size_t n, size_t *whole)
{
    ws_utf8 s = *state;
    size_t i = 0;
    *whole = 0;
    while (i < n) {
        uint8_t c;
        if (s.need == 0) {
            uint64_t word;
            while (i + 8 <= n) {
                memcpy(&word, data + i, 8);
                if (word & WS_HIGH_BITS)
                    break;
                i += 8;
            }
            *whole = i;
            if (i == n)
                break;
        }
        c = data[i++];
        if (s.need == 0) {
            if (c < 0x80) {
                *whole = i;
                continue;
            }
            s.low = 0x80;
            s.high = 0xBF;
            if (c < 0xC2)
                return 0;
            if (c < 0xE0) {
                s.need = 1;
            } else if (c < 0xF0) {
                s.need = 2;
                if (c == 0xE0)
                    s.low = 0xA0;
                else if (c == 0xED)
                    s.high = 0x9F;
            } else if (c < 0xF5) {
                s.need = 3;
                if (c == 0xF0)
                    s.low = 0x90;
                else if (c == 0xF4)
                    s.high = 0x8F;
            } else {
                return 0;
            }
        } else {
            if (c < s.low || c > s.high)
                return 0;
            s.low = 0x80;
            s.high = 0xBF;
            if (--s.need == 0)
                *whole = i;
        }
    }
    *state = s;
    return 1;
}

/* How long a frame's header is (s5.2). */
static inline int ws_header_size(uint64_t length, int masked)
{
    return (length < 126 ? 2 : length < 65536 ? 4 : 10) + (masked ? 4 : 0);
}

/* Write a header; `key` is NULL where the payload is not masked. Returns its length. */
static inline int ws_header(uint8_t *target, int opcode, uint64_t length, int fin, int rsv1, const uint8_t *key)
{
    const uint8_t mask_bit = key ? 0x80 : 0;
    int size = 2;
    target[0] = (uint8_t)(opcode | (fin ? 0x80 : 0) | (rsv1 ? 0x40 : 0));
    /* s5.2: the minimal number of bytes MUST be used to encode the length. */
    if (length < 126) {
        target[1] = mask_bit | (uint8_t)length;
    } else if (length < 65536) {
        target[1] = mask_bit | 126;
        target[2] = (uint8_t)(length >> 8);
        target[3] = (uint8_t)length;
        size = 4;
    } else {
        target[1] = mask_bit | 127;
        for (int i = 0; i < 8; i++)
            target[2 + i] = (uint8_t)(length >> (56 - 8 * i));
        size = 10;
    }
    if (key) {
        memcpy(target + size, key, 4);
        size += 4;
    }
    return size;
}

#endif
