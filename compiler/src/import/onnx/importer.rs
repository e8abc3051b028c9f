//! Walks a graph and turns its nodes into core ops by the table's rows.
//!
//! Every node is tried, so that one report names all that is wrong: what a failed node would have made is marked, and nodes that need it
//! are passed over in silence. Scopes nest as graphs do; a function's body sees nothing from outside.

use super::context::NodeContext;
use super::emit::Emitter;
use super::fault::{Fault, Outcome};
use super::file::ExternalData;
use super::label::label;
use super::operand::{Operand, Origin};
use super::order::order;
use super::schema::{FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};
use super::{functions, table, weights};
use crate::import::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use tilewright_ir::diagnostic::{Diagnostic, Diagnostics};
use tilewright_ir::location::Location;

/// The most nodes that are imported, inlined ones included: functions of functions can ask for any number.
const NODES_MAX: usize = 1 << 20;
/// How deep functions may call functions.
const CALLS_MAX: usize = 32;
/// How deep graphs, subgraphs and functions may nest together: each level takes some of the thread's stack.
const SCOPES_MAX: usize = 64;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Binding {
    /// A value.
    Known(Operand),
    /// An input of a function that its caller left out.
    Absent,
    /// A value whose making failed and was reported.
    Failed,
    /// A value that is reported by the first node that uses it.
    Refused(String),
}

/// Opset versions by domain.
pub(crate) type Opsets = Rc<BTreeMap<String, i64>>;

/// Names visible in one graph.
pub(crate) struct Scope {
    values: BTreeMap<String, (Binding, String)>,
    is_isolated: bool,
    opsets: Opsets,
    prefix: String,
}

/// Domain, name and overload of a model-local function.
pub(crate) type FunctionKey = (String, String, String);

/// One import.
pub(crate) struct Importer<'m> {
    /// Where ops are made.
    pub(crate) emit: Emitter,
    /// Files with external data.
    pub(crate) external: &'m mut ExternalData,
    /// What is wrong and what the user should know.
    pub(crate) diagnostics: Diagnostics,
    /// Symbols of batches that were taken for one sequence.
    pub(crate) batches: BTreeSet<Arc<str>>,
    /// What the user says about the import.
    pub(crate) options: &'m Options,
    functions: BTreeMap<FunctionKey, &'m FunctionProto>,
    scopes: Vec<Scope>,
    calls: Vec<FunctionKey>,
    node_count: usize,
}

/// `ai.onnx` is the long name of the empty domain.
pub(crate) fn domain_of(domain: Option<&str>) -> &str {
    match domain {
        None | Some("ai.onnx") => "",
        Some(domain) => domain,
    }
}

/// Opset versions by domain, as imported by a model or function.
pub(crate) fn opsets(imports: &[OperatorSetIdProto]) -> Opsets {
    let entry = |import: &OperatorSetIdProto| {
        (domain_of(import.domain.as_deref()).to_string(), import.version.unwrap_or(1))
    };
    Rc::new(imports.iter().map(entry).collect())
}

impl<'m> Importer<'m> {
    /// An import that makes its ops in `emit`.
    pub(crate) fn new(
        emit: Emitter,
        external: &'m mut ExternalData,
        functions: BTreeMap<FunctionKey, &'m FunctionProto>,
        opsets: Opsets,
        options: &'m Options,
    ) -> Importer<'m> {
        let scope = Scope { values: BTreeMap::new(), is_isolated: true, opsets, prefix: String::new() };
        Importer {
            emit,
            external,
            diagnostics: Vec::new(),
            batches: BTreeSet::new(),
            options,
            functions,
            scopes: vec![scope],
            calls: Vec::new(),
            node_count: 0,
        }
    }

    fn scope(&mut self) -> &mut Scope {
        self.scopes.last_mut().expect("there is always a scope")
    }

    /// Reports a fault of a node. Equalities of dimensions are handed on: they start the import again.
    fn report(&mut self, fault: Fault, label: &str, node: &str) -> Outcome<()> {
        if let Fault::Unify(..) = fault {
            return Err(fault);
        }
        self.diagnostics.extend(fault.diagnostic(Location::name(label), node));
        Ok(())
    }

    /// Gives a name its value. A name made twice in one graph is an error.
    pub(crate) fn define(&mut self, name: &str, binding: Binding, maker: &str) {
        if name.is_empty() {
            return;
        }
        if let Binding::Known(operand) = &binding
            && let Origin::Value(value) = operand.as_strings().unwrap_or(operand).origin()
        {
            let value = self.emit.module.value_mut(*value);
            if value.name.is_none() {
                value.name = Some(name.into());
            }
        }
        let earlier = self.scope().values.insert(name.to_string(), (binding, maker.to_string()));
        if let Some((_, earlier)) = earlier {
            let what = format!("value '{name}' is made twice: by {earlier} and by {maker}");
            let help = "rename one of the two in the exporter";
            self.diagnostics.push(Diagnostic::error(Location::name(maker), what).with_help(help));
        }
    }

    /// What a name stands for, from the innermost graph outwards.
    pub(crate) fn lookup(&self, name: &str) -> Option<&Binding> {
        for scope in self.scopes.iter().rev() {
            if let Some((binding, _)) = scope.values.get(name) {
                return Some(binding);
            }
            if scope.is_isolated {
                return None;
            }
        }
        None
    }

    /// The operand that a name stands for; `None` for an input that was left out.
    pub(crate) fn resolve(&self, name: &str) -> Outcome<Option<Operand>> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.lookup(name) {
            Some(Binding::Known(operand)) => Ok(Some(operand.clone())),
            Some(Binding::Absent) => Ok(None),
            Some(Binding::Failed) => Err(Fault::Reported),
            Some(Binding::Refused(reason)) => {
                Err(Fault::unsupported(format!("value '{name}': {reason}"), ""))
            }
            None => Err(Fault::Model(
                format!("value '{name}' is not defined"),
                "no node, input or initializer of this graph makes it".into(),
            )),
        }
    }

    /// Defines the stored tensors of a graph, but those whose names are in `but`.
    pub(crate) fn define_initializers(&mut self, graph: &GraphProto, but: &dyn Fn(&str) -> bool) {
        for tensor in &graph.initializer {
            let name = tensor.name.as_deref().unwrap_or_default();
            if but(name) {
                continue;
            }
            let binding = match weights::operand(tensor, self.external) {
                Ok(operand) => Binding::Known(operand),
                Err(what) if what.contains("not supported") => Binding::Refused(what),
                Err(what) => {
                    let what = format!("tensor '{name}': {what}");
                    self.diagnostics.push(Diagnostic::error(Location::name(name), what));
                    Binding::Failed
                }
            };
            self.define(name, binding, &format!("initializer '{name}'"));
        }
        for sparse in &graph.sparse_initializer {
            let name = sparse.values.as_ref().and_then(|values| values.name.as_deref()).unwrap_or_default();
            let refused = Binding::Refused("sparse initializers are not supported".into());
            self.define(name, refused, &format!("initializer '{name}'"));
        }
    }

    /// Imports nodes, producers first.
    pub(crate) fn import_nodes(&mut self, nodes: &[NodeProto]) -> Outcome<()> {
        let order = order(nodes).map_err(|cycle| {
            let shown: Vec<String> = cycle.iter().take(8).map(|label| format!("'{label}'")).collect();
            let more = if cycle.len() > 8 { format!(" and {} more", cycle.len() - 8) } else { String::new() };
            Fault::model(format!("the graph has a cycle through {}{more}", shown.join(", ")))
        })?;
        for at in order {
            self.import_node(&nodes[at])?;
        }
        Ok(())
    }

    /// How many scopes and blocks are open.
    pub(crate) fn depth(&self) -> (usize, usize) {
        (self.scopes.len(), self.emit.blocks.len())
    }

    /// Closes what was opened since.
    pub(crate) fn unwind(&mut self, depth: (usize, usize)) {
        self.scopes.truncate(depth.0);
        self.emit.blocks.truncate(depth.1);
    }

    fn import_node(&mut self, node: &NodeProto) -> Outcome<()> {
        let label = format!("{}{}", self.scope().prefix, label(node));
        let depth = self.depth();
        self.emit.location = Location::name(&label);
        let made = self.build(node, &label);
        // A fault inside a subgraph leaves its scope and block open.
        self.unwind(depth);
        let outputs = match made {
            Ok(outputs) => outputs,
            Err(fault) => {
                let text = self.describe(node);
                self.report(fault, &label, &text)?;
                for name in &node.output {
                    self.define(name, Binding::Failed, &label);
                }
                return Ok(());
            }
        };
        for (at, name) in node.output.iter().enumerate() {
            let binding = match outputs.get(at) {
                Some(operand) => Binding::Known(operand.clone()),
                None if name.is_empty() => continue,
                None => {
                    let text = self.describe(node);
                    let what = format!("output {at} ('{name}') is not supported");
                    self.report(
                        Fault::unsupported(what, "export the model without this output"),
                        &label,
                        &text,
                    )?;
                    Binding::Failed
                }
            };
            self.define(name, binding, &label);
        }
        Ok(())
    }

    /// Operator, domain and version, for messages.
    fn describe(&mut self, node: &NodeProto) -> String {
        let domain = domain_of(node.domain.as_deref());
        let version =
            self.scope().opsets.get(domain).map_or("no import".into(), |version| format!("opset {version}"));
        let shown = if domain.is_empty() { "ai.onnx" } else { domain };
        format!("{} ({shown}, {version})", node.op_type.as_deref().unwrap_or_default())
    }

    fn build(&mut self, node: &NodeProto, label: &str) -> Outcome<Vec<Operand>> {
        self.node_count += 1;
        if self.node_count > NODES_MAX {
            return Err(Fault::model(format!("more than {NODES_MAX} nodes after functions are inlined")));
        }
        if self.scopes.len() > SCOPES_MAX {
            return Err(Fault::model(format!("graphs nest more than {SCOPES_MAX} deep")));
        }
        let domain = domain_of(node.domain.as_deref());
        let op = node.op_type.as_deref().unwrap_or_default();
        let overload = node.overload.as_deref().unwrap_or_default();
        let key = (domain.to_string(), op.to_string(), overload.to_string());
        if let Some(function) = self.functions.get(&key).copied() {
            return self.call(key, function, node, label);
        }
        let version = self.scope().opsets.get(domain).copied().unwrap_or(1);
        let row = table::find(domain, op, version).ok_or_else(|| {
            Fault::unsupported("operator is not supported", table::way_out(domain, op, version))
        })?;
        let inputs = node.input.iter().map(|name| self.resolve(name)).collect::<Outcome<Vec<_>>>()?;
        row.make(&mut NodeContext { importer: self, node, version, inputs })
    }

    /// Imports a subgraph into the current block: `arguments` for its inputs, its outputs as the result.
    pub(crate) fn subgraph(&mut self, graph: &GraphProto, arguments: &[Operand]) -> Outcome<Vec<Operand>> {
        if graph.input.len() != arguments.len() {
            return Err(Fault::model(format!(
                "subgraph '{}' takes {} inputs, expected {}",
                graph.name.as_deref().unwrap_or_default(),
                graph.input.len(),
                arguments.len()
            )));
        }
        let (opsets, prefix) = (self.scope().opsets.clone(), self.scope().prefix.clone());
        self.scopes.push(Scope { values: BTreeMap::new(), is_isolated: false, opsets, prefix });
        for (input, argument) in graph.input.iter().zip(arguments) {
            let name = input.name.as_deref().unwrap_or_default();
            self.define(name, Binding::Known(argument.clone()), &format!("subgraph input '{name}'"));
        }
        let inputs: Vec<&str> = graph.input.iter().filter_map(|input| input.name.as_deref()).collect();
        self.define_initializers(graph, &|name| inputs.contains(&name));
        let location = self.emit.location.clone();
        self.import_nodes(&graph.node)?;
        self.emit.location = location;
        let outputs = graph.output.iter().map(|output| {
            let name = output.name.as_deref().unwrap_or_default();
            self.resolve(name)?.ok_or_else(|| Fault::model(format!("subgraph output '{name}' has no value")))
        });
        let outputs = outputs.collect::<Outcome<Vec<_>>>()?;
        self.scopes.pop();
        Ok(outputs)
    }

    /// Imports the body of a model-local function in place of its call.
    fn call(
        &mut self,
        key: FunctionKey,
        function: &'m FunctionProto,
        node: &NodeProto,
        label: &str,
    ) -> Outcome<Vec<Operand>> {
        if self.calls.contains(&key) {
            return Err(Fault::model(format!("function '{}' calls itself", key.1)));
        }
        if self.calls.len() >= CALLS_MAX {
            return Err(Fault::model(format!("functions call functions more than {CALLS_MAX} deep")));
        }
        if node.input.len() > function.input.len() {
            let (given, takes) = (node.input.len(), function.input.len());
            return Err(Fault::model(format!("function '{}' takes {takes} inputs, found {given}", key.1)));
        }
        let inputs = node.input.iter().map(|name| self.resolve(name)).collect::<Outcome<Vec<_>>>()?;
        let body = functions::body(function, node);
        let prefix = format!("{label}/");
        let opsets = opsets(&function.opset_import);
        self.scopes.push(Scope { values: BTreeMap::new(), is_isolated: true, opsets, prefix });
        for (at, name) in function.input.iter().enumerate() {
            let binding = inputs.get(at).cloned().flatten().map_or(Binding::Absent, Binding::Known);
            self.define(name, binding, &format!("input '{name}' of function '{}'", key.1));
        }
        self.calls.push(key);
        let done = self.import_nodes(&body);
        self.calls.pop();
        done?;
        let outputs = function.output.iter().map(|name| {
            self.resolve(name)?.ok_or_else(|| Fault::model(format!("function output '{name}' has no value")))
        });
        let outputs = outputs.collect::<Outcome<Vec<_>>>()?;
        self.scopes.pop();
        Ok(outputs)
    }
}
