// What the sanitizers have to catch: "past_the_end" reads behind a tensor, "overflow" adds beyond int64.
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

int main(int n_words, char** words) {
  const std::string mistake = words[1];
  std::vector<float> x(8 * n_words);
  int64_t largest = INT64_MAX - 2 + n_words;
  if (mistake == "past_the_end") std::printf("%g\n", x.data()[x.size()]);
  if (mistake == "overflow") std::printf("%lld\n", static_cast<long long>(largest += n_words));
}
