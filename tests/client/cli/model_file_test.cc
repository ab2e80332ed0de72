#include "client/cli/model_file.h"

#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace normd::cli {
namespace {

using ::normd::client::DataType;
using ::normd::client::NormKind;
using ::normd::client::State;
using ::normd::client::StateConfig;
using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

// A file's states with their values.
struct ReadState {
  std::string module;
  StateConfig config;
  client::InitialValues initial;
};
struct ReadModel {
  std::vector<ReadState> states;
  int64_t tensors_left_out = 0;
};

// A file in memory.
class Tensors {
 public:
  Tensors& Add(const std::string& name, const std::string& dtype, std::vector<int64_t> shape,
               const std::string& bytes) {
    const auto begin = static_cast<int64_t>(data_.size());
    data_ += bytes;
    header_.entries.push_back(
        {name, dtype, std::move(shape), begin, static_cast<int64_t>(data_.size())});
    return *this;
  }
  Tensors& AddFloats(const std::string& name, const std::vector<float>& values) {
    return Add(name, "F32", {static_cast<int64_t>(values.size())}, Bytes(values));
  }
  Tensors& AddMetadata(const std::string& text) {
    header_.metadata[kModelMetadataKey] = text;
    return *this;
  }
  static Tensors Of(const ModelFile& file) {
    Tensors tensors;
    for (const SafetensorsTensor& tensor : file.tensors) {
      tensors.Add(tensor.name, tensor.dtype, tensor.shape, tensor.bytes);
    }
    tensors.header_.metadata = file.metadata;
    return tensors;
  }

  absl::StatusOr<ReadModel> Import(Convention convention = Convention::kPyTorch,
                                   const NormOptions& options = {}) const {
    const absl::StatusOr<ModelImport> model = ImportModel(header_, convention, options);
    if (!model.ok()) return model.status();
    ReadModel read;
    read.tensors_left_out = model->tensors_left_out;
    for (const ModelState& state : model->states) {
      const auto initial = ReadInitialValues(state, [this](const SafetensorsEntry& entry) {
        return data_.substr(static_cast<size_t>(entry.begin),
                            static_cast<size_t>(entry.end - entry.begin));
      });
      if (!initial.ok()) return initial.status();
      read.states.push_back({state.module, state.config, *initial});
    }
    return read;
  }
  std::string ErrorOf(Convention convention = Convention::kPyTorch,
                      const NormOptions& options = {}) const {
    return std::string(Import(convention, options).status().message());
  }

 private:
  SafetensorsHeader header_;
  std::string data_;
};

State BatchNormState(const std::string& name) {
  State state;
  state.name = name;
  state.config = StateConfig::BatchNorm(2);
  state.config.eps = 0.25;
  state.weight = {1, 0.5};
  state.bias = {0, -1};
  state.running_mean = {0.1, 0.2};
  state.running_var = {3, 4};
  state.num_batches_tracked = 7;
  return state;
}

TEST(ModelFileTest, ExportsThePyTorchNamesShapesAndDtypes) {
  ModelExport model("net/", Convention::kPyTorch, DataType::kFloat32);
  ASSERT_TRUE(model.Add(BatchNormState("net/layer1/0.bn1")).ok());
  const ModelFile file = std::move(model).Finish();
  ASSERT_THAT(file.tensors, SizeIs(5));
  std::map<std::string, SafetensorsTensor> by_name;
  for (const SafetensorsTensor& tensor : file.tensors) by_name[tensor.name] = tensor;
  EXPECT_EQ(by_name["layer1.0.bn1.weight"].bytes, Bytes<float>({1, 0.5f}));
  EXPECT_EQ(by_name["layer1.0.bn1.running_mean"].bytes, Bytes<float>({0.1f, 0.2f}));
  EXPECT_EQ(by_name["layer1.0.bn1.running_var"].dtype, "F32");
  const SafetensorsTensor& tracked = by_name["layer1.0.bn1.num_batches_tracked"];
  EXPECT_EQ(tracked.dtype, "I64");
  EXPECT_THAT(tracked.shape, IsEmpty());
  EXPECT_EQ(tracked.bytes, Bytes<int64_t>({7}));
}

TEST(ModelFileTest, EveryConventionReadsBackWhatItWrote) {
  for (const auto& [name, convention] : Conventions()) {
    State layer;
    layer.name = "m/ln";
    layer.config = StateConfig::LayerNorm({2, 2});
    layer.config.num_features = 4;
    layer.config.optimizer = client::Optimizer::Adam();
    layer.weight = {1, 2, 3, 0.1};
    layer.bias = {4, 5, 6, 7};
    State bare;
    bare.name = "m/plain";
    bare.config = StateConfig::InstanceNorm(3);
    ModelExport model("m/", convention, DataType::kFloat64);
    for (const State& state : {BatchNormState("m/bn"), layer, bare}) {
      ASSERT_TRUE(model.Add(state).ok());
    }
    const auto read = Tensors::Of(std::move(model).Finish()).Import(convention);
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_THAT(read->states, SizeIs(3)) << name;
    EXPECT_EQ(read->tensors_left_out, 0);
    const ReadState& bn = read->states[0];
    EXPECT_EQ(bn.module, "bn");
    EXPECT_TRUE(bn.config == BatchNormState("").config);
    EXPECT_THAT(bn.initial.weight, ElementsAre(1, 0.5));
    EXPECT_THAT(bn.initial.running_mean, ElementsAre(0.1, 0.2));
    EXPECT_EQ(bn.initial.num_batches_tracked, 7) << name;
    EXPECT_TRUE(read->states[1].config == layer.config);
    EXPECT_EQ(read->states[1].initial.weight, layer.weight);
    EXPECT_TRUE(read->states[2].config == bare.config);
  }
}

TEST(ModelFileTest, RefusesTwoStatesThatAreOneModuleAndValuesThatDoNotFit) {
  ModelExport model("", Convention::kPyTorch, DataType::kFloat32);
  ASSERT_TRUE(model.Add(BatchNormState("a/b")).ok());
  EXPECT_THAT(std::string(model.Add(BatchNormState("a.b")).message()),
              HasSubstr("'a/b' and 'a.b' are both the module 'a.b'"));
  State large = BatchNormState("c");
  large.running_var = {1e300, 1};
  EXPECT_THAT(std::string(model.Add(large).message()),
              HasSubstr("'c': running_var: the value 1e+300 does not fit in float32"));
}

TEST(ModelFileTest, FindsBatchNormsInAModelOfOthers) {
  Tensors tensors;
  tensors.Add("conv.weight", "F32", {1, 1}, Bytes<float>({1}))
      .AddFloats("conv.bias", {1})
      .AddFloats("bn.weight", {1, 2})
      .AddFloats("bn.bias", {3, 4})
      .AddFloats("bn.running_mean", {5, 6})
      .AddFloats("bn.running_var", {7, 8})
      .Add("bn.num_batches_tracked", "I64", {}, Bytes<int64_t>({9}))
      .AddFloats("plain.running_mean", {1})
      .AddFloats("plain.running_var", {2});
  const auto read = tensors.Import();
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(read->states, SizeIs(2));
  EXPECT_EQ(read->tensors_left_out, 2);
  EXPECT_TRUE(read->states[0].config == StateConfig::BatchNorm(2));
  EXPECT_THAT(read->states[0].initial.bias, ElementsAre(3, 4));
  EXPECT_EQ(read->states[0].initial.num_batches_tracked, 9);
  EXPECT_EQ(read->states[1].module, "plain");
  EXPECT_FALSE(read->states[1].config.affine);
}

TEST(ModelFileTest, OptionsSayTheKindOfModulesWithoutRunningStatistics) {
  Tensors tensors;
  tensors.Add("fc.weight", "F32", {2, 2}, Bytes<float>({1, 2, 3, 4}))
      .AddFloats("ln.weight", {1, 2})
      .AddFloats("ln.bias", {3, 4})
      .AddFloats("bn.running_mean", {1})
      .AddFloats("bn.running_var", {1});
  NormOptions options;
  options.kind = NormKind::kLayerNorm;
  options.eps = 1e-6;
  auto read = tensors.Import(Convention::kPyTorch, options);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(read->states, SizeIs(1));
  EXPECT_EQ(read->states[0].module, "ln");
  EXPECT_THAT(read->states[0].config.normalized_shape, ElementsAre(2));
  EXPECT_EQ(read->states[0].config.eps, 1e-6);
  options.normalized_shape = {2, 2};
  read = tensors.Import(Convention::kPyTorch, options);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(read->states, SizeIs(1));
  EXPECT_EQ(read->states[0].module, "fc");
  options = {};
  options.kind = NormKind::kGroupNorm;
  EXPECT_THAT(tensors.ErrorOf(Convention::kPyTorch, options), HasSubstr("--num-groups"));
  options.kind = NormKind::kRmsNorm;
  EXPECT_THAT(tensors.ErrorOf(Convention::kPyTorch, options), HasSubstr("has bias"));
}

TEST(ModelFileTest, KerasAndOnnxTurnTheMomentumAroundAndHaveTheirDefaults) {
  Tensors keras;
  keras.AddFloats("bn/gamma", {1})
      .AddFloats("bn/beta", {2})
      .AddFloats("bn/moving_mean", {3})
      .AddFloats("bn/moving_variance", {4});
  auto read = keras.Import(Convention::kKeras);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(read->states, SizeIs(1));
  EXPECT_EQ(read->states[0].module, "bn");
  EXPECT_THAT(*read->states[0].config.momentum, DoubleNear(0.01, 1e-12));
  EXPECT_EQ(read->states[0].config.eps, 1e-3);
  EXPECT_EQ(read->states[0].config.correction, 0);
  EXPECT_THAT(read->states[0].initial.running_var, ElementsAre(4));
  NormOptions options;
  options.momentum = 0.75;
  options.correction = 1;
  read = keras.Import(Convention::kKeras, options);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->states[0].config.momentum, 0.25);
  EXPECT_EQ(read->states[0].config.correction, 1);
  Tensors onnx;
  onnx.AddFloats("bn.scale", {1})
      .AddFloats("bn.B", {2})
      .AddFloats("bn.input_mean", {3})
      .AddFloats("bn.input_var", {4});
  read = onnx.Import(Convention::kOnnx);
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(read->states, SizeIs(1));
  EXPECT_THAT(*read->states[0].config.momentum, DoubleNear(0.1, 1e-12));
  EXPECT_EQ(read->states[0].config.eps, 1e-5);
}

TEST(ModelFileTest, ReadsValuesOfEveryFloatingDtypeAndNoOther) {
  Tensors tensors;
  tensors.Add("a.running_mean", "F16", {1}, Bytes<uint16_t>({0x3c00}))
      .Add("a.running_var", "BF16", {1}, Bytes<uint16_t>({0x3f80}))
      .Add("a.weight", "F64", {1}, Bytes<double>({0.1}));
  const auto read = tensors.Import();
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_THAT(read->states[0].initial.running_mean, ElementsAre(1));
  EXPECT_THAT(read->states[0].initial.running_var, ElementsAre(1));
  EXPECT_THAT(read->states[0].initial.weight, ElementsAre(0.1));
  EXPECT_EQ(read->states[0].config.parameter_dtype, DataType::kFloat64);
  Tensors integers;
  integers.Add("a.running_mean", "I32", {1}, "1234").AddFloats("a.running_var", {1});
  EXPECT_THAT(integers.ErrorOf(), HasSubstr("'a.running_mean' has dtype I32"));
}

TEST(ModelFileTest, RefusesModulesThatDoNotAgreeWithThemselves) {
  Tensors no_var;
  no_var.AddFloats("a.running_mean", {1});
  EXPECT_THAT(no_var.ErrorOf(), HasSubstr("'a' has no running_var"));
  Tensors short_bias;
  short_bias.AddFloats("a.running_mean", {1, 2})
      .AddFloats("a.running_var", {1, 2})
      .AddFloats("a.bias", {1});
  EXPECT_THAT(short_bias.ErrorOf(), HasSubstr("has bias of shape (1,), expected (2,)"));
  Tensors bad_count;
  bad_count.AddFloats("a.running_mean", {1})
      .AddFloats("a.running_var", {1})
      .AddFloats("a.num_batches_tracked", {1});
  EXPECT_THAT(bad_count.ErrorOf(), HasSubstr("expected one I64"));
}

TEST(ModelFileTest, RefusesMetadataThatAreDamagedOrAskedAgain) {
  const auto error_of = [](const std::string& text) {
    return Tensors().AddMetadata(text).ErrorOf();
  };
  EXPECT_THAT(error_of("{"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error_of("[]"), HasSubstr("expected a JSON object"));
  EXPECT_THAT(error_of("{}"), HasSubstr("version 1"));
  EXPECT_THAT(error_of(R"({"version":2,"states":[]})"), HasSubstr("version 1"));
  EXPECT_THAT(error_of(R"({"version":1,"states":{}})"), HasSubstr("an array of states"));
  EXPECT_THAT(error_of(R"({"version":1,"states":[1]})"), HasSubstr("no module"));
  EXPECT_THAT(error_of(R"({"version":1,"states":[{"module":1}]})"), HasSubstr("no module"));
  EXPECT_THAT(error_of(R"({"version":1,"states":[{"module":"a"}]})"), HasSubstr("module 'a'"));
  const std::string state = R"({"module":"a","config":{"kind":"BATCH_NORM","num_features":1}})";
  EXPECT_THAT(error_of(absl::StrCat(R"({"version":1,"states":[)", state, ",", state, "]}")),
              HasSubstr("'a' comes twice"));
  const std::string whole = absl::StrCat(R"({"version":1,"states":[)", state, "]}");
  EXPECT_THAT(error_of(whole), HasSubstr("'a' has no weight"));
  NormOptions options;
  options.eps = 1;
  EXPECT_THAT(Tensors().AddMetadata(whole).ErrorOf(Convention::kPyTorch, options),
              HasSubstr("leave out the options"));
}

TEST(ModelFileTest, RefusesDeeplyNestedMetadataInEveryPlace) {
  const std::string deep(3'000'000, '[');
  const std::string closed = absl::StrCat(deep, std::string(3'000'000, ']'));
  std::string objects;
  for (int i = 0; i < 1'000'000; ++i) absl::StrAppend(&objects, R"({"a":)");
  absl::StrAppend(&objects, "1", std::string(1'000'000, '}'));
  const std::string config = R"({"kind":"BATCH_NORM","num_features":1})";
  for (const std::string& value : {closed, deep, objects}) {
    for (const std::string& text : {
             value,
             absl::StrCat(R"({"version":)", value, R"(,"states":[]})"),
             absl::StrCat(R"({"version":1,"states":)", value, "}"),
             absl::StrCat(R"({"version":1,"states":[)", value, "]}"),
             absl::StrCat(R"({"version":1,"states":[{"module":)", value, "}]}"),
             absl::StrCat(R"({"version":1,"states":[{"module":"a","config":)", value, "}]}"),
             absl::StrCat(R"({"version":1,"states":[{"module":"a","config":{"kind":)", value,
                          "}}]}"),
             absl::StrCat(R"({"version":1,"states":[{"module":"a","config":{"optimizer":)", value,
                          "}}]}"),
             absl::StrCat(R"({"version":1,"states":[{"module":"a","config":)", config,
                          R"(,"num_batches_tracked":)", value, "}]}"),
             absl::StrCat(R"({"\\":"\"[","x":)", value, "}"),
         }) {
      EXPECT_THAT(Tensors().AddMetadata(text).ErrorOf(), HasSubstr("at most 32 deep, got more"))
          << text.substr(0, 80);
    }
  }
}

TEST(ModelFileTest, BracketsInTheStringsOfMetadataAreNotNested) {
  const std::string module = absl::StrCat(std::string(100, '['), "\\\"", std::string(100, '{'));
  const std::string text = absl::StrCat(R"({"version":1,"states":[{"module":")", module,
                                        R"(","config":{"kind":"LAYER_NORM","affine":false,)",
                                        R"("normalized_shape":[1]}}]})");
  const auto read = Tensors().AddMetadata(text).Import();
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_THAT(read->states, SizeIs(1));
  EXPECT_EQ(read->states[0].module,
            absl::StrCat(std::string(100, '['), "\"", std::string(100, '{')));
}

TEST(ModelFileTest, ChecksTheSizeOfATensorBeforeItIsRead) {
  constexpr int64_t kLarge = (int64_t{1} << 20) + 1;
  const auto header = [](const std::string& field, const std::string& dtype, int64_t size) {
    SafetensorsHeader made;
    made.entries = {{"a.running_mean", "F32", {kLarge - 1}, 0, 0},
                    {"a.running_var", "F32", {kLarge - 1}, 0, 0},
                    {"a.weight", "F32", {kLarge - 1}, 0, 0},
                    {"a.num_batches_tracked", "I64", {1}, 0, 0}};
    for (SafetensorsEntry& entry : made.entries) {
      if (entry.name == field) {
        entry.dtype = dtype;
        entry.shape = {size};
      }
    }
    return made;
  };
  const auto error = [&header](const std::string& field, const std::string& dtype, int64_t size) {
    const auto model = ImportModel(header(field, dtype, size), Convention::kPyTorch, {});
    return std::string(model.status().message());
  };
  EXPECT_EQ(error("a.weight", "F32", kLarge - 1), "");
  for (const char* field : {"a.running_mean", "a.running_var", "a.weight"}) {
    EXPECT_THAT(error(field, "F16", kLarge),
                HasSubstr(absl::StrCat("'", field, "' has shape (1048577,), 1048577 values, ",
                                       "expected at most 1048576")));
    EXPECT_THAT(error(field, "U8", kLarge - 1), HasSubstr("has dtype U8"));
  }
  EXPECT_THAT(error("a.num_batches_tracked", "I64", int64_t{1} << 33),
              HasSubstr("has shape (8589934592,) of I64, expected one I64"));
}

TEST(ModelFileTest, RefusesToExportWhatNoImportCouldTake) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const struct {
    std::vector<double> State::*tensor;
    double value;
    const char* message;
  } cases[] = {{&State::running_mean, nan, "'net/bn': running_mean is nan at index 1"},
               {&State::running_var, infinity, "'net/bn': running_var is inf at index 1"},
               {&State::weight, -infinity, "'net/bn': weight is -inf at index 1"},
               {&State::bias, nan, "'net/bn': bias is nan at index 1"}};
  for (const DataType dtype : {DataType::kFloat32, DataType::kFloat64}) {
    for (const auto& [tensor, value, message] : cases) {
      ModelExport model("net/", Convention::kPyTorch, dtype);
      State state = BatchNormState("net/bn");
      (state.*tensor)[1] = value;
      EXPECT_THAT(std::string(model.Add(state).message()), HasSubstr(message));
    }
  }
}

}  // namespace
}  // namespace normd::cli
