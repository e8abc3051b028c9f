//! Convolution networks of published shapes, quantised to int8 as static quantisers write them: `QuantizeLinear` and `DequantizeLinear`
//! around every operator, weights with a scale per output channel, biases in i32, activations that the range of their integers clamps
//! (ReLU, ReLU6), an int8 border. Weights are seeded random numbers of a size that keeps activations spread.
//!
//! ```text
//! input i8 -> DequantizeLinear -> Conv(x, DequantizeLinear(w), DequantizeLinear(b)) -> QuantizeLinear -> DequantizeLinear -> ..
//! ```

use crate::import::onnx::schema::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, tensor_shape_proto, type_proto,
};
use prost::Message;
use std::path::Path;
use tensor_shape_proto::{Dimension, dimension};
use tilewright_ir::diagnostic::Diagnostic;
use tilewright_ir::sample::Sampler;

const OPSET: i64 = 21;
/// `TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const INT32: i32 = 6;
/// Activations lie from 0 to 6, as after ReLU6: integers from -128.
const ACTIVATION_SCALE: f32 = 6.0 / 255.0;
const ACTIVATION_ZERO: i8 = -128;
/// Size of activations less their zero point, and of weights, as they are drawn: to choose scales by.
const ACTIVATION_SIZE: f64 = 100.0;
const WEIGHT_SIZE: f64 = 73.0;
/// Spread of the sums of a layer, in real numbers.
const SUM_SIZE: f64 = 2.5;

/// A layer; padding keeps `ceil(length / stride)` rows and columns (TensorFlow's SAME).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    /// Output channels, window and strides as `[height, width]`.
    Plain(usize, [usize; 2], [usize; 2]),
    /// A window of its own for each channel.
    Depthwise([usize; 2], [usize; 2]),
}

/// A network of convolutions, then the mean over all positions and a dense layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: &'static str,
    /// Whose shape it has.
    pub like: &'static str,
    /// Channels, height and width of the input.
    pub input: [usize; 3],
    layers: Vec<Layer>,
    classes: usize,
}

/// The networks there are.
pub fn networks() -> Vec<Network> {
    vec![mobilenet(), ds_cnn(), residual_free_toy()]
}

/// The depthwise-separable pair.
fn separable(channels: usize, stride: usize) -> [Layer; 2] {
    [Layer::Depthwise([3, 3], [stride, stride]), Layer::Plain(channels, [1, 1], [1, 1])]
}

/// Howard et al. 2017, arXiv:1704.04861, table 1, a quarter of the channels, on 96 x 96 pixels: the visual-wake-words model of MLPerf
/// Tiny (Banbury et al. 2021, arXiv:2106.07597).
fn mobilenet() -> Network {
    let pairs = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)].into_iter().chain([(128, 1); 5]);
    let pairs = pairs.chain([(256, 2), (256, 1)]);
    let first = Layer::Plain(8, [3, 3], [2, 2]);
    let layers = [first].into_iter().chain(pairs.flat_map(|(channels, stride)| separable(channels, stride)));
    Network {
        name: "mobilenet-v1-0.25-96",
        like: "MobileNetV1 0.25 on 96x96 pixels, int8",
        input: [3, 96, 96],
        layers: layers.collect(),
        classes: 2,
    }
}

/// Zhang et al. 2017, arXiv:1711.07128, DS-CNN of size L: 49 steps of 10 coefficients, 12 words.
fn ds_cnn() -> Network {
    let pairs = [2, 1, 1, 1, 1].into_iter().flat_map(|stride| separable(276, stride));
    let layers = [Layer::Plain(276, [10, 4], [2, 1])].into_iter().chain(pairs);
    Network {
        name: "ds-cnn-large",
        like: "DS-CNN of size L for keyword spotting, int8",
        input: [1, 49, 10],
        layers: layers.collect(),
        classes: 12,
    }
}

fn residual_free_toy() -> Network {
    let layers =
        [Layer::Plain(8, [3, 3], [2, 2])].into_iter().chain(separable(16, 1)).chain(separable(24, 2));
    Network {
        name: "separable-tiny",
        like: "a toy of five convolutions for tests, int8",
        input: [3, 24, 24],
        layers: layers.collect(),
        classes: 4,
    }
}

/// One value on its way: name, channels, height, width.
#[derive(Clone)]
struct Map {
    name: String,
    dims: [usize; 3],
}

struct Maker {
    graph: GraphProto,
    random: Sampler,
}

impl Network {
    /// A network by name.
    pub fn find(name: &str) -> Option<Network> {
        networks().into_iter().find(|network| network.name == name)
    }

    /// Bytes of each feature map in int8, the input's first, the mean left out.
    pub fn map_bytes(&self) -> Vec<usize> {
        let mut dims = self.input;
        let bytes = |dims: [usize; 3]| dims.iter().product();
        let after = self.layers.iter().map(|layer| {
            dims = layer.result(dims);
            bytes(dims)
        });
        std::iter::once(bytes(self.input)).chain(after).collect()
    }

    /// The model; the same seed gives the same bytes.
    pub fn model(&self, seed: u64) -> Vec<u8> {
        let mut maker = Maker { graph: GraphProto::default(), random: Sampler::new(seed) };
        maker.graph.name = Some(self.name.into());
        let [channels, height, width] = self.input;
        maker.graph.input.push(port("input", &[1, channels, height, width]));
        maker.graph.output.push(port("output", &[1, self.classes]));
        maker.quantization("activation", ACTIVATION_SCALE, ACTIVATION_ZERO);
        let name = maker.dequantized("input", "input", "activation");
        let mut map = Map { name, dims: self.input };
        for (at, layer) in self.layers.iter().enumerate() {
            map = maker.convolution(&format!("layer{at}"), &map, *layer);
        }
        maker.head(&map, self.classes);
        let opset = OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) };
        let model = ModelProto {
            ir_version: Some(10),
            opset_import: vec![opset],
            producer_name: Some("tilewright synthesize".into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            graph: Some(maker.graph),
            ..ModelProto::default()
        };
        model.encode_to_vec()
    }

    /// Writes `model.onnx` into a folder, which is made when it is missing. Gives its bytes.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, seed: u64, folder: &Path) -> Result<u64, Diagnostic> {
        crate::output::make_folder(folder)?;
        let bytes = self.model(seed);
        crate::output::write(&folder.join("model.onnx"), &bytes)?;
        Ok(bytes.len() as u64)
    }
}

impl Layer {
    fn window(self) -> ([usize; 2], [usize; 2]) {
        match self {
            Layer::Plain(_, window, strides) | Layer::Depthwise(window, strides) => (window, strides),
        }
    }

    fn result(self, [channels, height, width]: [usize; 3]) -> [usize; 3] {
        let (_, strides) = self.window();
        let channels = if let Layer::Plain(channels, ..) = self { channels } else { channels };
        [channels, height.div_ceil(strides[0]), width.div_ceil(strides[1])]
    }
}

impl Maker {
    fn node(&mut self, op: &str, name: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = format!("{name}_output");
        self.graph.node.push(NodeProto {
            name: Some(name.into()),
            op_type: Some(op.into()),
            input: inputs.iter().map(ToString::to_string).collect(),
            output: vec![output.clone()],
            attribute: attributes,
            ..NodeProto::default()
        });
        output
    }

    fn initializer(&mut self, name: &str, element: i32, dims: &[usize], bytes: Vec<u8>) {
        self.graph.initializer.push(TensorProto {
            name: Some(name.into()),
            data_type: Some(element),
            dims: dims.iter().map(|dim| *dim as i64).collect(),
            raw_data: Some(bytes.into()),
            ..TensorProto::default()
        });
    }

    fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        self.initializer(name, FLOAT, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    fn integers(&mut self, name: &str, values: &[i32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, INT32, &[values.len()], bytes);
    }

    /// A scale and a zero point of activations, under one name.
    fn quantization(&mut self, name: &str, scale: f32, zero: i8) {
        self.floats(&format!("{name}_scale"), &[], &[scale]);
        self.initializer(&format!("{name}_zero_point"), INT8, &[], vec![zero as u8]);
    }

    fn dequantized(&mut self, name: &str, x: &str, parameters: &str) -> String {
        let (scale, zero) = (format!("{parameters}_scale"), format!("{parameters}_zero_point"));
        self.node("DequantizeLinear", &format!("{name}_DequantizeLinear"), &[x, &scale, &zero], vec![])
    }

    fn quantized(&mut self, name: &str, x: &str, parameters: &str) -> String {
        let (scale, zero) = (format!("{parameters}_scale"), format!("{parameters}_zero_point"));
        self.node("QuantizeLinear", &format!("{name}_QuantizeLinear"), &[x, &scale, &zero], vec![])
    }

    /// Weights `[o, ..]` and bias of a layer that sums `depth` products, dequantised, with scales per output channel.
    fn weights(&mut self, name: &str, dims: &[usize], depth: usize) -> [String; 2] {
        let outputs = dims[0];
        let count: usize = dims.iter().product();
        let weights: Vec<u8> = (0..count).map(|_| self.random.below(-127, 128) as i8 as u8).collect();
        let products = (depth as f64).sqrt() * ACTIVATION_SIZE * WEIGHT_SIZE * f64::from(ACTIVATION_SCALE);
        let scales: Vec<f32> =
            (0..outputs).map(|_| (SUM_SIZE / products * (0.75 + self.random.unit() / 2.0)) as f32).collect();
        let sums: Vec<f32> = scales.iter().map(|scale| scale * ACTIVATION_SCALE).collect();
        let bias = |random: &mut Sampler, scale: &f32| (random.unit() * SUM_SIZE / f64::from(*scale)) as i32;
        let biases: Vec<i32> = sums.iter().map(|scale| bias(&mut self.random, scale)).collect();
        let (weight, bias) = (format!("{name}_weight"), format!("{name}_bias"));
        self.initializer(&weight, INT8, dims, weights);
        self.floats(&format!("{weight}_scale"), &[outputs], &scales);
        self.initializer(&format!("{weight}_zero_point"), INT8, &[outputs], vec![0; outputs]);
        self.integers(&bias, &biases);
        self.floats(&format!("{bias}_scale"), &[outputs], &sums);
        self.integers(&format!("{bias}_zero_point"), &vec![0; outputs]);
        [weight, bias].map(|stored| {
            let (scale, zero) = (format!("{stored}_scale"), format!("{stored}_zero_point"));
            let axis = vec![int("axis", 0)];
            self.node(
                "DequantizeLinear",
                &format!("{stored}_DequantizeLinear"),
                &[&stored, &scale, &zero],
                axis,
            )
        })
    }

    fn convolution(&mut self, name: &str, x: &Map, layer: Layer) -> Map {
        let dims = layer.result(x.dims);
        let (window, strides) = layer.window();
        let groups = if let Layer::Depthwise(..) = layer { x.dims[0] } else { 1 };
        let channels = x.dims[0] / groups;
        let [w, bias] =
            self.weights(name, &[dims[0], channels, window[0], window[1]], channels * window[0] * window[1]);
        let total = [0, 1].map(|axis| {
            let reached = (dims[axis + 1] - 1) * strides[axis] + window[axis];
            reached.saturating_sub(x.dims[axis + 1])
        });
        let pads = [total[0] / 2, total[1] / 2, total[0] - total[0] / 2, total[1] - total[1] / 2];
        let attributes = vec![
            int("group", groups as i64),
            ints("kernel_shape", &window),
            ints("strides", &strides),
            ints("pads", &pads),
        ];
        let y = self.node("Conv", &format!("{name}_Conv"), &[&x.name, &w, &bias], attributes);
        let y = self.quantized(name, &y, "activation");
        Map { name: self.dequantized(name, &y, "activation"), dims }
    }

    fn head(&mut self, x: &Map, classes: usize) {
        let mean = self.node("GlobalAveragePool", "mean", &[&x.name], vec![]);
        let mean = self.quantized("mean", &mean, "activation");
        let mean = self.dequantized("mean", &mean, "activation");
        let flat = self.node("Flatten", "flat", &[&mean], vec![int("axis", 1)]);
        let [w, bias] = self.weights("dense", &[classes, x.dims[0]], x.dims[0]);
        let y = self.node("Gemm", "dense_Gemm", &[&flat, &w, &bias], vec![int("transB", 1)]);
        self.quantization("result", 8.0 / 127.0, 0);
        self.quantized("result", &y, "result");
        if let Some(last) = self.graph.node.last_mut() {
            last.output = vec!["output".into()];
        }
    }
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), i: Some(value), r#type: Some(2), ..AttributeProto::default() }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|value| *value as i64).collect();
    AttributeProto { name: Some(name.into()), ints, r#type: Some(7), ..AttributeProto::default() }
}

fn port(name: &str, dims: &[usize]) -> ValueInfoProto {
    let dim = dims.iter().map(|dim| Dimension {
        value: Some(dimension::Value::DimValue(*dim as i64)),
        ..Dimension::default()
    });
    let tensor =
        type_proto::Tensor { elem_type: Some(INT8), shape: Some(TensorShapeProto { dim: dim.collect() }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..TypeProto::default() });
    ValueInfoProto { name: Some(name.into()), r#type, ..ValueInfoProto::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_sizes_of_their_models() {
        let mobilenet = Network::find("mobilenet-v1-0.25-96").unwrap();
        let bytes = mobilenet.map_bytes();
        assert_eq!(bytes[..5], [27_648, 18_432, 18_432, 36_864, 9_216]);
        assert_eq!(bytes.last(), Some(&(256 * 9)));
        let ds_cnn = Network::find("ds-cnn-large").unwrap();
        assert_eq!(ds_cnn.map_bytes()[..3], [490, 276 * 25 * 10, 276 * 13 * 5]);
        // Weights as published: 0.21 M (Howard et al.) with 2 classes; 407.6 k.
        for (network, weights) in [(mobilenet, 208_112), (ds_cnn, 407_652)] {
            let model = ModelProto::decode(network.model(1).as_slice()).unwrap();
            let initializers = model.graph.unwrap().initializer;
            let is_weight = |tensor: &&TensorProto| tensor.data_type == Some(INT8) && tensor.dims.len() > 1;
            let count: i64 =
                initializers.iter().filter(is_weight).map(|tensor| tensor.dims.iter().product::<i64>()).sum();
            assert_eq!(count, weights, "{}", network.name);
        }
    }
}
