// Holds conversations between two instances of the negentropy reference, for tests/vectors/negentropy.py.
//
// In, for each: "limit count_a count_b", then a line "time id" for each entry of a, then of b. A limit of 0 is
// none, ids are in hex. Out: a line "frame HEX" for each frame, a's first, and a line "have HEX ..." and "need HEX ...".

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "negentropy.h"
#include "negentropy/storage/Vector.h"

using negentropy::storage::Vector;

static std::string from_hex(const std::string &text) {
    std::string bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2) bytes.push_back(char(std::stoi(text.substr(i, 2), nullptr, 16)));
    return bytes;
}

static std::string to_hex(const std::string &bytes) {
    static const char *digits = "0123456789abcdef";
    std::string text;
    for (unsigned char byte : bytes) {
        text.push_back(digits[byte >> 4]);
        text.push_back(digits[byte & 15]);
    }
    return text;
}

static void read(Vector &set, size_t count) {
    uint64_t time;
    std::string id;
    for (size_t i = 0; i < count; i++) {
        std::cin >> time >> id;
        set.insert(time, from_hex(id));
    }
    set.seal();
}

static void write(const std::string &name, const std::vector<std::string> &values) {
    std::cout << name;
    for (const auto &value : values) std::cout << ' ' << to_hex(value);
    std::cout << '\n';
}

int main() {
    size_t limit, count_a, count_b;
    while (std::cin >> limit >> count_a >> count_b) {
        Vector a, b;
        read(a, count_a);
        read(b, count_b);
        Negentropy asking(a, limit);
        std::vector<std::string> have, need;
        std::optional<std::string> frame = asking.initiate();
        while (frame) {
            write("frame", {*frame});
            Negentropy answering(b, limit);
            std::string answer = answering.reconcile(*frame);
            write("frame", {answer});
            frame = asking.reconcile(answer, have, need);
        }
        write("have", have);
        write("need", need);
    }
}
