// What the control methods beside CreateState refuse; nothing changes.
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/server/bad_input.h"
#include "tests/server/server_fixture.h"

namespace normd::testing {
namespace {

// A call that must fail, made with the fixture's methods.
class ControlCalls : public ServerTest {
 public:
  void TestBody() override {}
  using ServerTest::AbortCalibration;
  using ServerTest::BeginCalibration;
  using ServerTest::CommitCalibration;
  using ServerTest::Delete;
  using ServerTest::Freeze;
  using ServerTest::Get;
  using ServerTest::List;
  using ServerTest::Reset;
  using ServerTest::SetParameters;
  using ServerTest::Unfreeze;
  using ServerTest::Update;
};

using CallThatFails = std::function<grpc::Status(ControlCalls&)>;

using BadControl = BadInput<CallThatFails>;

CallThatFails UpdateOf(const std::string& state, const std::vector<std::string>& paths,
                       const v1::NormConfig& config = {}, const std::string& etag = "") {
  return [=](ControlCalls& calls) {
    v1::UpdateStateRequest request;
    request.mutable_state()->set_name(state);
    *request.mutable_state()->mutable_config() = config;
    for (const std::string& path : paths) request.mutable_update_mask()->add_paths(path);
    request.set_etag(etag);
    return calls.Update(request);
  };
}

v1::NormConfig With(const v1::Optimizer& optimizer) {
  v1::NormConfig config;
  *config.mutable_optimizer() = optimizer;
  return config;
}

CallThatFails SetWeight(const std::string& state, const v1::Tensor& weight,
                        const std::string& etag = "") {
  return [=](ControlCalls& calls) {
    v1::SetParametersRequest request;
    request.set_name(state);
    *request.mutable_parameters()->mutable_weight() = weight;
    request.set_etag(etag);
    return calls.SetParameters(request);
  };
}

CallThatFails ListOf(const v1::ListStatesRequest& request) {
  return [=](ControlCalls& calls) {
    v1::ListStatesResponse response;
    return calls.List(request, &response);
  };
}

v1::ListStatesRequest Token(const std::string& token) {
  v1::ListStatesRequest request;
  request.set_prefix("m");
  request.set_page_token(token);
  return request;
}

std::vector<BadControl> BadControls() {
  constexpr auto kNotFound = grpc::StatusCode::NOT_FOUND;
  constexpr auto kPrecondition = grpc::StatusCode::FAILED_PRECONDITION;
  constexpr auto kAborted = grpc::StatusCode::ABORTED;
  const std::string huge(1 << 20, '\x01');
  std::string huge_utf8;
  while (huge_utf8.size() < (1 << 20)) huge_utf8 += "ß";
  const std::vector<std::string> no_such = {"state 'none' does not exist"};
  const v1::Tensor weight = Float32Tensor({2}, {1, 2});
  v1::NormConfig bad_values;
  bad_values.set_eps(-1);
  bad_values.set_momentum(2);
  bad_values.set_running_var_correction(-1);
  bad_values.set_non_finite(static_cast<v1::NormConfig::NonFinite>(4));
  v1::ListStatesRequest negative_page;
  negative_page.set_page_size(-1);
  v1::ListStatesRequest bad_prefix;
  bad_prefix.set_prefix("m*");
  v1::ListStatesRequest long_prefix;
  long_prefix.set_prefix(std::string(1 << 20, 'p'));
  v1::ListStatesRequest bad_view;
  bad_view.set_view(static_cast<v1::StateView>(8));
  return {
      {"GetUnknown",
       [](ControlCalls& c) {
         v1::State state;
         return c.Get("none", &state);
       },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"GetBadName",
       [](ControlCalls& c) {
         v1::State state;
         return c.Get("no ne", &state);
       },
       {kInvalid, "STATE_NAME_INVALID", {"offset 2"}, "name"}},
      {"GetBadView",
       [](ControlCalls& c) {
         v1::State state;
         return c.Get("m", &state, static_cast<v1::StateView>(8));
       },
       {kInvalid, "VIEW_UNKNOWN", {"view is 8", "BASIC (1)", "FULL (2)"}, "view"}},
      {"DeleteUnknown",
       [](ControlCalls& c) { return c.Delete("none"); },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"DeleteStaleEtag",
       [](ControlCalls& c) { return c.Delete("m", "stale"); },
       {kAborted, "ETAG_MISMATCH", {"state 'm'", "etag is '", "'stale'"}, "etag"}},
      {"DeleteHugeEtag",
       [=](ControlCalls& c) { return c.Delete("m", huge); },
       {kAborted, "ETAG_MISMATCH", {"etag is '"}, "etag"}},
      {"DeleteHugeEtagInUtf8",
       [=](ControlCalls& c) { return c.Delete("m", huge_utf8); },
       {kAborted, "ETAG_MISMATCH", {"etag is '"}, "etag"}},
      {"FreezeUnknown",
       [](ControlCalls& c) { return c.Freeze("none"); },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"FreezeStaleEtag",
       [](ControlCalls& c) { return c.Freeze("m", nullptr, "stale"); },
       {kAborted, "ETAG_MISMATCH", {"etag is '", "'stale'"}, "etag"}},
      {"UnfreezeUnknown",
       [](ControlCalls& c) { return c.Unfreeze("none"); },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"UnfreezeStaleEtag",
       [](ControlCalls& c) { return c.Unfreeze("frozen", nullptr, "stale"); },
       {kAborted, "ETAG_MISMATCH", {"etag is '", "'stale'"}, "etag"}},
      {"ResetUnknown",
       [](ControlCalls& c) { return c.Reset("none"); },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"ResetFrozen",
       [](ControlCalls& c) { return c.Reset("frozen"); },
       {kPrecondition, "STATE_FROZEN", {"state 'frozen'", "frozen", "unfrozen"}, ""}},
      {"ResetWithoutTracking",
       [](ControlCalls& c) { return c.Reset("bare"); },
       {kPrecondition, "RUNNING_STATS_ABSENT", {"track_running_stats is false"}, ""}},

      {"SetUnknown", SetWeight("none", weight), {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"SetBadName",
       SetWeight("no ne", weight),
       {kInvalid, "STATE_NAME_INVALID", {"offset 2"}, "name"}},
      {"SetBadNameAndWeight",
       SetWeight(std::string(1 << 20, '\x01'), v1::Tensor()),
       {kInvalid, "STATE_NAME_INVALID", {"1048576", "255"}, "name"}},
      {"SetFrozen",
       SetWeight("frozen", weight),
       {kPrecondition, "STATE_FROZEN", {"frozen", "unfrozen"}, ""}},
      {"SetStaleEtag",
       SetWeight("m", weight, "stale"),
       {kAborted, "ETAG_MISMATCH", {"etag is '", "'stale'"}, "etag"}},
      {"SetWithoutAffine",
       SetWeight("bare", weight),
       {kPrecondition, "PARAMETERS_ABSENT", {"affine is false"}, "parameters"}},
      {"SetWrongLength",
       SetWeight("m", Float32Tensor({3}, {1, 2, 3})),
       {kInvalid, "PARAMETERS_LENGTH_MISMATCH", {"num_features is 2", "weight has 3"}, "weight"}},
      {"SetTransposedShape",
       SetWeight("layer", Float32Tensor({3, 2}, {1, 2, 3, 4, 5, 6})),
       {kInvalid,
        "PARAMETERS_LENGTH_MISMATCH",
        {"weight has shape [3,2]", "expected [2,3] or [6]"},
        "weight"}},
      {"SetBiasOfAnRmsNorm",
       [](ControlCalls& c) {
         v1::SetParametersRequest request;
         request.set_name("rms");
         *request.mutable_parameters()->mutable_bias() = Float32Tensor({2}, {1, 2});
         return c.SetParameters(request);
       },
       {kPrecondition, "PARAMETERS_ABSENT", {"RMS_NORM", "no bias"}, "bias"}},
      {"SetNone",
       SetWeight("m", Float32Tensor({0}, {})),
       {kInvalid, "PARAMETERS_LENGTH_MISMATCH", {"num_features is 2", "weight has 0"}, "weight"}},
      {"SetNan",
       SetWeight("m", Float64Tensor({2}, {1, kNan})),
       {kInvalid, "NON_FINITE_VALUE", {"weight is nan", "channel 1"}, "weight"}},
      {"SetUnknownDtype",
       SetWeight("m", v1::Tensor()),
       {kInvalid, "DTYPE_UNKNOWN", {"weight", "dtype is 0"}, "dtype"}},
      {"SetNothing",
       [](ControlCalls& c) {
         v1::SetParametersRequest request;
         request.set_name("m");
         return c.SetParameters(request);
       },
       {kInvalid, "PARAMETERS_LENGTH_MISMATCH", {"neither", "expected one or both"}, "parameters"}},

      {"UpdateUnknown",
       UpdateOf("none", {"config.eps"}),
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"UpdateFrozen",
       UpdateOf("frozen", {"config.eps"}),
       {kPrecondition, "STATE_FROZEN", {"frozen", "unfrozen"}, ""}},
      {"UpdateStaleEtag",
       UpdateOf("m", {"config.eps"}, {}, "stale"),
       {kAborted, "ETAG_MISMATCH", {"etag is '", "'stale'"}, "etag"}},
      {"UpdateEmptyMask",
       UpdateOf("m", {}),
       {kInvalid, "UPDATE_MASK_INVALID", {"update_mask is empty", "config.eps"}, "update_mask"}},
      {"UpdateUnknownPath",
       UpdateOf("m", {"config.eps", "config.epsilon"}),
       {kInvalid,
        "UPDATE_MASK_INVALID",
        {"'config.epsilon'", "expected config.eps"},
        "update_mask"}},
      {"UpdateHugePath",
       UpdateOf("m", {huge}),
       {kInvalid, "UPDATE_MASK_INVALID", {"update_mask has the path"}, "update_mask"}},
      {"UpdateHugePathInUtf8",
       UpdateOf("m", {huge_utf8}),
       {kInvalid, "UPDATE_MASK_INVALID", {"update_mask has the path"}, "update_mask"}},
      {"UpdateStar",
       UpdateOf("m", {"*"}),
       {kInvalid, "UPDATE_MASK_INVALID", {"'*'"}, "update_mask"}},
      {"UpdateName",
       UpdateOf("m", {"name"}),
       {kInvalid, "FIELD_IMMUTABLE", {"name is fixed at creation"}, "name"}},
      {"UpdateKind",
       UpdateOf("m", {"config.kind"}),
       {kInvalid, "FIELD_IMMUTABLE", {"config.kind is fixed"}, "config.kind"}},
      {"UpdateNumFeatures",
       UpdateOf("m", {"config.num_features"}),
       {kInvalid, "FIELD_IMMUTABLE", {"config.num_features is fixed"}, "config.num_features"}},
      {"UpdateAffine",
       UpdateOf("m", {"config.affine"}),
       {kInvalid, "FIELD_IMMUTABLE", {"config.affine is fixed"}, "config.affine"}},
      {"UpdateTracking",
       UpdateOf("m", {"config.track_running_stats"}),
       {kInvalid,
        "FIELD_IMMUTABLE",
        {"config.track_running_stats is fixed"},
        "config.track_running_stats"}},
      {"UpdateNormalizedShape",
       UpdateOf("m", {"config.normalized_shape"}),
       {kInvalid,
        "FIELD_IMMUTABLE",
        {"config.normalized_shape is fixed"},
        "config.normalized_shape"}},
      {"UpdateNumGroups",
       UpdateOf("m", {"config.num_groups"}),
       {kInvalid, "FIELD_IMMUTABLE", {"config.num_groups is fixed"}, "config.num_groups"}},
      {"UpdateParameterDtype",
       UpdateOf("m", {"config.parameter_dtype"}),
       {kInvalid,
        "FIELD_IMMUTABLE",
        {"config.parameter_dtype is fixed"},
        "config.parameter_dtype"}},
      {"UpdateEpsOutOfRange",
       UpdateOf("m", {"config.eps"}, bad_values),
       {kInvalid, "EPS_OUT_OF_RANGE", {"eps is -1", ">= 0"}, "config.eps"}},
      {"UpdateMomentumOutOfRange",
       UpdateOf("m", {"config.momentum"}, bad_values),
       {kInvalid, "MOMENTUM_OUT_OF_RANGE", {"momentum is 2", "0 to 1"}, "config.momentum"}},
      {"UpdateCorrectionOutOfRange",
       UpdateOf("m", {"config.running_var_correction"}, bad_values),
       {kInvalid, "CORRECTION_OUT_OF_RANGE", {"is -1", "0 or 1"}, "config.running_var_correction"}},
      {"UpdateNonFiniteUnknown",
       UpdateOf("m", {"config.non_finite"}, bad_values),
       {kInvalid,
        "NON_FINITE_POLICY_UNKNOWN",
        {"non_finite is 4", "REFUSE (1)"},
        "config.non_finite"}},

      {"UpdateMomentumOfALayerNorm",
       UpdateOf("layer", {"config.momentum"}),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"state 'layer'", "momentum is set", "LAYER_NORM"},
        "config.momentum"}},
      {"UpdateCorrectionOfALayerNorm",
       UpdateOf("layer", {"config.running_var_correction"}),
       {kInvalid,
        "FIELD_NOT_APPLICABLE",
        {"running_var_correction is set", "LAYER_NORM"},
        "config.running_var_correction"}},
      {"UpdateLrWithoutAnOptimizer",
       UpdateOf("m", {"config.optimizer.lr"}, With(Sgd(0.5))),
       {kPrecondition,
        "OPTIMIZER_ABSENT",
        {"state 'm'", "no optimizer", "config.optimizer.lr"},
        "config.optimizer.lr"}},
      {"UpdateLrOutOfRange",
       UpdateOf("layer", {"config.optimizer.lr"}, With(Sgd(-1))),
       {kInvalid, "OPTIMIZER_INVALID", {"lr is -1", ">= 0"}, "config.optimizer.lr"}},
      {"UpdateLrOfSgdToNone",
       UpdateOf("layer", {"config.optimizer.lr"}),
       {kInvalid, "OPTIMIZER_INVALID", {"lr is not set", "SGD"}, "config.optimizer.lr"}},
      {"UpdateMomentumOfTheOptimizer",
       UpdateOf("layer", {"config.optimizer.momentum"}),
       {kInvalid,
        "UPDATE_MASK_INVALID",
        {"'config.optimizer.momentum'", "config.optimizer.lr"},
        "update_mask"}},
      {"UpdateToAnInvalidOptimizer",
       UpdateOf("m", {"config.optimizer"}, With(v1::Optimizer())),
       {kInvalid,
        "OPTIMIZER_INVALID",
        {"algorithm is 0", "SGD (1)"},
        "config.optimizer.algorithm"}},
      {"UpdateToAnOptimizerWithoutAffine",
       UpdateOf("bare", {"config.optimizer"}, With(Sgd(0.5))),
       {kInvalid, "FIELD_NOT_APPLICABLE", {"affine is false"}, "config.optimizer"}},

      {"BeginUnknown",
       [](ControlCalls& c) { return c.BeginCalibration("none", v1::Calibration::POOLED); },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"BeginBadName",
       [](ControlCalls& c) { return c.BeginCalibration("no ne", v1::Calibration::POOLED); },
       {kInvalid, "STATE_NAME_INVALID", {"offset 2"}, "name"}},
      {"BeginStaleEtag",
       [](ControlCalls& c) {
         return c.BeginCalibration("m", v1::Calibration::POOLED, nullptr, "stale");
       },
       {kAborted, "ETAG_MISMATCH", {"etag is '", "'stale'"}, "etag"}},
      {"BeginWithoutAMethod",
       [](ControlCalls& c) { return c.BeginCalibration("m", v1::Calibration::METHOD_UNSPECIFIED); },
       {kInvalid,
        "CALIBRATION_METHOD_UNKNOWN",
        {"state 'm'", "method is 0", "MEAN_OF_BATCHES (1)", "POOLED (2)"},
        "method"}},
      {"BeginByAnUnknownMethod",
       [](ControlCalls& c) {
         return c.BeginCalibration("m", static_cast<v1::Calibration::Method>(3));
       },
       {kInvalid, "CALIBRATION_METHOD_UNKNOWN", {"method is 3"}, "method"}},
      {"BeginFrozen",
       [](ControlCalls& c) { return c.BeginCalibration("frozen", v1::Calibration::POOLED); },
       {kPrecondition, "STATE_FROZEN", {"frozen", "unfrozen"}, ""}},
      {"BeginWithoutTracking",
       [](ControlCalls& c) { return c.BeginCalibration("bare", v1::Calibration::POOLED); },
       {kPrecondition, "RUNNING_STATS_ABSENT", {"track_running_stats is false"}, ""}},
      {"BeginPooledOfAnInstanceNorm",
       [](ControlCalls& c) { return c.BeginCalibration("instance", v1::Calibration::POOLED); },
       {kInvalid, "FIELD_NOT_APPLICABLE", {"POOLED", "INSTANCE_NORM"}, "method"}},
      {"BeginTwice",
       [](ControlCalls& c) { return c.BeginCalibration("calibrated", v1::Calibration::POOLED); },
       {kPrecondition, "CALIBRATION_ACTIVE", {"state 'calibrated'", "under way"}, ""}},
      {"CommitUnknown",
       [](ControlCalls& c) { return c.CommitCalibration("none"); },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"CommitFrozen",
       [](ControlCalls& c) { return c.CommitCalibration("frozen"); },
       {kPrecondition, "STATE_FROZEN", {"frozen", "unfrozen"}, ""}},
      {"CommitOfNone",
       [](ControlCalls& c) { return c.CommitCalibration("m"); },
       {kPrecondition, "CALIBRATION_NOT_ACTIVE", {"no calibration is under way"}, ""}},
      {"CommitOfNothing",
       [](ControlCalls& c) { return c.CommitCalibration("calibrated"); },
       {kPrecondition, "CALIBRATION_EMPTY", {"0 batches", "at least 1"}, ""}},
      {"CommitOfAnother",
       [](ControlCalls& c) { return c.CommitCalibration("calibrated", nullptr, "a\n"); },
       {kPrecondition,
        "CALIBRATION_MISMATCH",
        {"under way is '", "expected 'a\\n'"},
        "calibration_id"}},
      {"CommitStale",
       [](ControlCalls& c) { return c.CommitCalibration("calibrated", nullptr, "", "stale"); },
       {grpc::StatusCode::ABORTED, "ETAG_MISMATCH", {"expected 'stale'"}, "etag"}},
      {"AbortUnknown",
       [](ControlCalls& c) { return c.AbortCalibration("none"); },
       {kNotFound, "STATE_NOT_FOUND", no_such, ""}},
      {"AbortFrozen",
       [](ControlCalls& c) { return c.AbortCalibration("frozen"); },
       {kPrecondition, "STATE_FROZEN", {"frozen", "unfrozen"}, ""}},
      {"AbortOfAnother",
       [](ControlCalls& c) {
         return c.AbortCalibration("calibrated", nullptr, std::string(1 << 20, 'a'));
       },
       {kPrecondition, "CALIBRATION_MISMATCH", {"under way is '", "aaa..."}, "calibration_id"}},
      {"AbortStale",
       [](ControlCalls& c) { return c.AbortCalibration("calibrated", nullptr, "", "stale"); },
       {grpc::StatusCode::ABORTED, "ETAG_MISMATCH", {"expected 'stale'"}, "etag"}},
      {"AbortOfNone",
       [](ControlCalls& c) { return c.AbortCalibration("m"); },
       {kPrecondition, "CALIBRATION_NOT_ACTIVE", {"no calibration is under way"}, ""}},

      {"ListBadToken",
       ListOf(Token("no token")),
       {kInvalid,
        "PAGE_TOKEN_INVALID",
        {"page_token is 'no token'", "expected one", "ListStates", "prefix 'm'"},
        "page_token"}},
      // "x\nxy": well formed, for the prefix "x".
      {"ListTokenOfAnotherPrefix",
       ListOf(Token("eAp4eQ")),
       {kInvalid,
        "PAGE_TOKEN_INVALID",
        {"page_token is 'eAp4eQ'", "expected one", "ListStates", "prefix 'm'"},
        "page_token"}},
      // "m\nx": does not begin with the prefix.
      {"ListTokenOutsideThePrefix",
       ListOf(Token("bQp4")),
       {kInvalid,
        "PAGE_TOKEN_INVALID",
        {"page_token is 'bQp4'", "expected one", "ListStates", "prefix 'm'"},
        "page_token"}},
      {"ListUnprintableToken",
       ListOf(Token("\x01\n")),
       {kInvalid, "PAGE_TOKEN_INVALID", {"page_token is '\\x01\\n'", "prefix 'm'"}, "page_token"}},
      {"ListHugeToken",
       ListOf(Token(std::string(1 << 20, 'A'))),
       {kInvalid,
        "PAGE_TOKEN_INVALID",
        {"page_token is 'AAA", "AAA...'", "expected one", "prefix 'm'"},
        "page_token"}},
      {"ListNegativePageSize",
       ListOf(negative_page),
       {kInvalid, "PAGE_SIZE_INVALID", {"page_size is -1", ">= 0"}, "page_size"}},
      {"ListBadPrefix",
       ListOf(bad_prefix),
       {kInvalid, "STATE_NAME_INVALID", {"prefix 'm*'", "offset 1"}, "prefix"}},
      {"ListLongPrefix",
       ListOf(long_prefix),
       {kInvalid, "STATE_NAME_INVALID", {"1048576", "255"}, "prefix"}},
      {"ListBadView",
       ListOf(bad_view),
       {kInvalid, "VIEW_UNKNOWN", {"view is 8", "BASIC (1)"}, "view"}},
  };
}

class BadControlTest : public ControlCalls, public ::testing::WithParamInterface<BadControl> {};

TEST_P(BadControlTest, IsRefusedAndChangesNothing) {
  StartServer(InMemory());
  MustCreate("m", 2);
  MustCreate("frozen", 2);
  ASSERT_TRUE(Freeze("frozen").ok());
  v1::State bare = BatchNormState("bare", 2);
  bare.mutable_config()->set_affine(false);
  bare.mutable_config()->set_track_running_stats(false);
  ASSERT_TRUE(Create(bare).ok());
  v1::State layer = LayerNormState("layer", {2, 3});
  *layer.mutable_config()->mutable_optimizer() = Sgd(0.5);
  MustCreate(layer);
  MustCreate(RmsNormState("rms", {2}));
  v1::State instance = InstanceNormState("instance", 2);
  instance.mutable_config()->set_track_running_stats(true);
  MustCreate(instance);
  MustCreate("calibrated", 2);
  ASSERT_TRUE(BeginCalibration("calibrated", v1::Calibration::MEAN_OF_BATCHES).ok());
  v1::ListStatesRequest all;
  all.set_view(v1::FULL);
  v1::ListStatesResponse before;
  ASSERT_TRUE(List(all, &before).ok());

  ExpectRefusal(ErrorOf(GetParam().spoil(*this)), GetParam().refusal);

  v1::ListStatesResponse after;
  ASSERT_TRUE(List(all, &after).ok());
  EXPECT_EQ(after.SerializeAsString(), before.SerializeAsString());
}

INSTANTIATE_TEST_SUITE_P(Cases, BadControlTest, ::testing::ValuesIn(BadControls()),
                         CaseName<CallThatFails>);

}  // namespace
}  // namespace normd::testing
