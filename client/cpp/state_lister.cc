#include <utility>

#include "client/cpp/client.h"

namespace normd::client {

StateLister::StateLister(Client* client, ListOptions options)
    : client_(client), options_(std::move(options)) {}

absl::StatusOr<std::optional<State>> StateLister::Next() {
  while (next_in_page_ == page_.states.size()) {
    if (on_last_page_) return std::nullopt;
    absl::StatusOr<StatePage> page = client_->ListStates(options_);
    if (!page.ok()) return page.status();
    page_ = *std::move(page);
    next_in_page_ = 0;
    damaged_.insert(damaged_.end(), page_.damaged.begin(), page_.damaged.end());
    options_.page_token = page_.next_page_token;
    on_last_page_ = page_.next_page_token.empty();
  }
  return std::move(page_.states[next_in_page_++]);
}

}  // namespace normd::client
