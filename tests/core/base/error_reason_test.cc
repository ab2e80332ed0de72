// core includes no wire header, so this test holds its reasons and the wire's together.

#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <string>

#include "core/base/error.h"
#include "normd/v1/errors.pb.h"

namespace normd {
namespace {

TEST(ErrorReasonTest, EveryReasonHasTheNameAndNumberOfTheWire) {
  for (const ReasonInfo& info : ReasonTable()) {
    v1::ErrorReason wire = v1::ERROR_REASON_UNSPECIFIED;
    ASSERT_TRUE(v1::ErrorReason_Parse(std::string(info.name), &wire))
        << info.name << " is no normd.v1.ErrorReason";
    EXPECT_EQ(static_cast<int>(info.reason), static_cast<int>(wire)) << info.name;
  }
}

TEST(ErrorReasonTest, EveryReasonOfTheWireIsInTheTable) {
  const google::protobuf::EnumDescriptor& wire = *v1::ErrorReason_descriptor();
  // All but ERROR_REASON_UNSPECIFIED.
  ASSERT_EQ(static_cast<size_t>(wire.value_count() - 1), ReasonTable().size());
  for (int i = 1; i < wire.value_count(); ++i) {
    const google::protobuf::EnumValueDescriptor& value = *wire.value(i);
    EXPECT_EQ(value.name(), std::string(GetReasonInfo(static_cast<Reason>(value.number())).name));
  }
}

}  // namespace
}  // namespace normd
