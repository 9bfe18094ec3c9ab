//! Puts middleware in front of an application: one component out of several. It reads the components' types and wires
//! them; it neither compiles nor runs them.

use std::{collections::BTreeMap, error::Error, fmt};

use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId, types::Package};

/// Composes `layers`, outermost first, into one component.
///
/// Each interface of `covet:app` that a layer imports is taken from the nearest layer behind it that exports it, and the
/// outermost layer that exports an interface exports it for the whole. So a middleware that only knows `handler` leaves
/// `app` to the application. Interfaces are matched by their exact name, version included. Whatever else the layers
/// import, WASI above all, the whole imports; whatever else they export is hidden.
///
/// # Errors
/// See [`ComposeError`].
pub fn compose(layers: &[Vec<u8>]) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let instances = instantiate(&mut graph, layers)?;
    let mut exports: BTreeMap<String, NodeId> = BTreeMap::new();
    for (index, &(package, instance)) in instances.iter().enumerate().rev() {
        let world = &graph.types()[graph[package].ty()];
        let wanted = ours(world.imports.keys());
        let offered = ours(world.exports.keys());
        let is_innermost = index + 1 == layers.len();
        let connected = connect(&mut graph, index, instance, &wanted, &exports)?;
        if connected == 0 && !is_innermost {
            return Err(ComposeError::Unconnected { layer: index });
        }
        exports.extend(offered.into_iter().map(|name| (name, instance)));
    }
    export(&mut graph, exports).map_err(ComposeError::Encode)?;
    let options = EncodeOptions { define_components: true, validate: true, processor: None };
    graph.encode(options).map_err(|error| ComposeError::Encode(error.into()))
}

/// Why components do not fit together. Layers are counted from 0, the outermost.
#[derive(Debug)]
pub enum ComposeError {
    /// There are no layers.
    Empty,
    /// A layer is not a component.
    Layer {
        /// Which one.
        layer: usize,
        /// What is wrong with it.
        source: BoxedError,
    },
    /// A layer that is not the innermost imports nothing that a layer behind it exports, so that none would ever be
    /// called.
    Unconnected {
        /// Which one.
        layer: usize,
    },
    /// A layer and one behind it have the same interface with different types: they were built against different
    /// versions of it.
    Mismatch {
        /// The one that imports it.
        layer: usize,
        /// The interface.
        interface: String,
        /// Where the types differ.
        source: BoxedError,
    },
    /// The whole is not a valid component.
    Encode(BoxedError),
}

/// An error of the crate that composes.
pub type BoxedError = Box<dyn Error + Send + Sync>;

impl fmt::Display for ComposeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("there is nothing to compose"),
            Self::Layer { layer, .. } => write!(f, "layer {layer} is not a component"),
            Self::Unconnected { layer } => write!(f, "layer {layer} imports nothing that a layer behind it exports"),
            Self::Mismatch { layer, interface, .. } => {
                write!(f, "layer {layer} and the one behind it were built against different versions of {interface}")
            }
            Self::Encode(_) => f.write_str("the layers do not make a component together"),
        }
    }
}

impl Error for ComposeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Empty | Self::Unconnected { .. } => None,
            Self::Layer { source, .. } | Self::Mismatch { source, .. } | Self::Encode(source) => Some(&**source),
        }
    }
}

/// Adds an instance of each layer to the graph.
fn instantiate(graph: &mut CompositionGraph, layers: &[Vec<u8>]) -> Result<Vec<(PackageId, NodeId)>, ComposeError> {
    if layers.is_empty() {
        return Err(ComposeError::Empty);
    }
    let mut instances = Vec::with_capacity(layers.len());
    for (layer, bytes) in layers.iter().enumerate() {
        // The same component may occur twice; packages must differ in name.
        let name = format!("covet:layer{layer}");
        let package = Package::from_bytes(&name, None, bytes.clone(), graph.types_mut())
            .map_err(|error| ComposeError::Layer { layer, source: error.into() })?;
        let package =
            graph.register_package(package).map_err(|error| ComposeError::Layer { layer, source: error.into() })?;
        instances.push((package, graph.instantiate(package)));
    }
    Ok(instances)
}

/// Gives a layer what it wants and somebody behind it offers. Returns how much that was.
fn connect(
    graph: &mut CompositionGraph,
    layer: usize,
    instance: NodeId,
    wanted: &[String],
    offered: &BTreeMap<String, NodeId>,
) -> Result<usize, ComposeError> {
    let mut connected = 0;
    for name in wanted {
        let Some(&from) = offered.get(name) else { continue };
        let mismatch = |source| ComposeError::Mismatch { layer, interface: name.clone(), source };
        let export = graph.alias_instance_export(from, name).map_err(|error| mismatch(error.into()))?;
        graph.set_instantiation_argument(instance, name, export).map_err(|error| mismatch(error.into()))?;
        connected += 1;
    }
    Ok(connected)
}

fn export(graph: &mut CompositionGraph, exports: BTreeMap<String, NodeId>) -> Result<(), BoxedError> {
    for (name, instance) in exports {
        let export = graph.alias_instance_export(instance, &name)?;
        graph.export(export, &name)?;
    }
    Ok(())
}

/// The interfaces that layers pass to each other; `covet:app/host` is nobody's export and stays an import.
fn ours<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    names.filter(|name| name.starts_with("covet:app/")).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_composed_is_named() {
        assert!(matches!(compose(&[]), Err(ComposeError::Empty)));
        let refused = compose(&[b"\0asm\x01\0\0\0".to_vec()]).unwrap_err();
        assert!(matches!(refused, ComposeError::Layer { layer: 0, .. }), "{refused}");
        // The smallest component there is imports and exports nothing.
        let empty = b"\0asm\x0d\0\x01\0".to_vec();
        let refused = compose(&[empty.clone(), empty]).unwrap_err();
        assert!(matches!(refused, ComposeError::Unconnected { layer: 0 }), "{refused}");
    }
}
