//! What a component consists of: its core modules, in which order they are instantiated, and which of their exports are
//! used. One pass over the binary; it judges nothing (`check` does) and validates nothing (wasmtime does).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use wasmparser::{
    BinaryReaderError, CanonicalFunction, CanonicalOption, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, ComponentTypeRef, Data, DataKind, ElementItems, Encoding, ExternalKind, FunctionBody,
    Instance, KnownCustom, Name, Operator, Parser, Payload, TypeRef, ValType,
};

/// A component taken apart.
#[derive(Debug, Default)]
pub(super) struct Outline {
    pub(super) modules: Vec<Module>,
    /// The module of each core instance, in the order in which they come to life; none where a module comes from
    /// outside of the component.
    pub(super) instantiations: Vec<Option<usize>>,
    /// Canonical functions that say more than that a function is called.
    pub(super) builtins: BTreeSet<Builtin>,
}

/// Canonical functions with which a component keeps state outside of its memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Builtin {
    /// `resource.new`: handles of its own resources.
    ResourceNew,
    /// `backpressure.inc` and `.dec`: a counter in the instance.
    Backpressure,
    /// `thread.*`: other stacks.
    Threads,
}

/// A core module.
#[derive(Debug, Default)]
pub(super) struct Module {
    pub(super) name: String,
    /// Where the module is in the component's bytes.
    pub(super) range: Range<usize>,
    pub(super) memories: Vec<Memory>,
    pub(super) has_odd_table: bool,
    pub(super) globals: Vec<Global>,
    pub(super) data: Vec<Segment>,
    /// What its functions do to state that is not linear memory.
    pub(super) effects: Vec<(u32, Effect)>,
    /// Whether code refers to data segments, which then have to stay where they are.
    pub(super) refers_to_data: bool,
    /// Exports that somebody outside of the module uses.
    used: BTreeSet<String>,
    exports: HashMap<String, (ExternalKind, u32)>,
    pub(super) imports: Vec<(String, String, ExternalKind)>,
    imported_functions: u32,
    calls: BTreeMap<u32, BTreeSet<u32>>,
    /// Where the bodies of its functions are in the component's bytes.
    bodies: Vec<Range<usize>>,
    /// Functions that are in a table or referred to, and can be called from anywhere.
    referenced: BTreeSet<u32>,
    function_names: HashMap<u32, String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    /// Shared, 64-bit, or with pages of another size.
    pub(super) is_odd: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Global {
    /// Field name of an import, or from the name section.
    pub(super) name: String,
    pub(super) is_mutable_i32: bool,
    /// Where it is a constant.
    pub(super) initial: Option<i32>,
}

/// A data segment.
#[derive(Clone, Debug)]
pub(super) enum Segment {
    /// Copied into memory 0 at a fixed address when the module is instantiated.
    Fixed {
        offset: u32,
        /// Where its bytes are in the component.
        bytes: Range<usize>,
    },
    Other,
}

/// Something that a function does to state outside of linear memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// `global.set`.
    Global(u32),
    /// `table.set`, `table.grow`, `table.fill`, `table.copy` or `table.init`.
    Table,
    /// `data.drop` or `elem.drop`.
    Drop,
    /// Exceptions, garbage collection, threads or stack switching.
    Exotic,
}

impl Module {
    /// Functions that can run after instantiation.
    pub(super) fn reachable(&self) -> BTreeSet<u32> {
        let used = self.used.iter().filter_map(|name| self.exported_function(name));
        let mut open: Vec<u32> = used.chain(self.referenced.iter().copied()).collect();
        let mut reached: BTreeSet<u32> = open.iter().copied().collect();
        while let Some(function) = open.pop() {
            if self.build_only() == Some(function) {
                continue;
            }
            for &callee in self.calls.get(&function).into_iter().flatten() {
                if reached.insert(callee) {
                    open.push(callee);
                }
            }
        }
        reached
    }

    /// A function that tools call while they build a component, and nobody later: it makes the adapter for WASI's first
    /// preview forget what it allocated (wit-component's name for it). It is in every Python application.
    pub(super) fn build_only(&self) -> Option<u32> {
        self.exported_function("reset_adapter_state")
    }

    fn exported_function(&self, name: &str) -> Option<u32> {
        match self.exports.get(name) {
            Some((ExternalKind::Func | ExternalKind::FuncExact, index)) => Some(*index),
            _ => None,
        }
    }

    /// Where a function's body is in the component's bytes; none for an imported one.
    pub(super) fn body(&self, function: u32) -> Option<Range<usize>> {
        self.bodies.get(function.checked_sub(self.imported_functions)? as usize).cloned()
    }

    /// A function's name, or its number.
    pub(super) fn function_name(&self, function: u32) -> String {
        self.function_names.get(&function).cloned().unwrap_or_else(|| format!("function {function}"))
    }
}

/// Takes a component apart. Costs about 0.3 s for a Python application, since every instruction is read.
pub(super) fn outline(wasm: &[u8]) -> Result<Outline, BinaryReaderError> {
    let mut reader = Reader { wasm, outline: Outline::default(), open: Vec::new(), components: Vec::new() };
    for payload in Parser::new(0).parse_all(wasm) {
        reader.payload(payload?)?;
    }
    Ok(reader.finish())
}

struct Reader<'a> {
    wasm: &'a [u8],
    outline: Outline,
    /// The modules and components that are being read, the innermost last.
    open: Vec<Open>,
    /// What each component definition instantiates.
    components: Vec<Vec<Step>>,
}

enum Open {
    Module { module: Box<Module>, next_function: u32 },
    Component(Scope),
}

/// The index spaces of a component definition, as far as they matter here. None stands for what comes from outside.
#[derive(Default)]
struct Scope {
    modules: Vec<Option<usize>>,
    components: Vec<Option<usize>>,
    core_instances: Vec<CoreInstance>,
    /// Where core functions come from, if from a core instance.
    core_functions: Vec<Option<(u32, String)>>,
    steps: Vec<Step>,
}

enum CoreInstance {
    Of(Option<usize>),
    Bag(Vec<(String, Option<u32>)>),
}

#[derive(Clone, Copy)]
enum Step {
    Module(Option<usize>),
    Component(Option<usize>),
}

impl<'a> Reader<'a> {
    fn payload(&mut self, payload: Payload<'a>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::Version { encoding: Encoding::Module, range, .. } => {
                let module = Box::new(Module { range: range.start..range.start, ..Module::default() });
                self.open.push(Open::Module { module, next_function: 0 });
                return Ok(());
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                self.open.push(Open::Component(Scope::default()));
                return Ok(());
            }
            Payload::End(offset) => {
                self.end(offset);
                return Ok(());
            }
            _ => {}
        }
        match self.open.last_mut() {
            Some(Open::Module { module, next_function }) => read_module(module, next_function, self.wasm, payload),
            Some(Open::Component(_)) => self.component(payload),
            None => Ok(()),
        }
    }

    fn end(&mut self, offset: usize) {
        match self.open.pop() {
            Some(Open::Module { mut module, .. }) => {
                module.range.end = offset;
                self.outline.modules.push(*module);
                let id = self.outline.modules.len() - 1;
                if let Some(Open::Component(scope)) = self.open.last_mut() {
                    scope.modules.push(Some(id));
                }
            }
            Some(Open::Component(scope)) => {
                self.components.push(scope.steps);
                let id = self.components.len() - 1;
                if let Some(Open::Component(parent)) = self.open.last_mut() {
                    parent.components.push(Some(id));
                }
            }
            None => {}
        }
    }

    fn component(&mut self, payload: Payload<'a>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    self.core_instance(instance?);
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        let scope = self.scope();
                        let component = scope.components.get(component_index as usize).copied().flatten();
                        scope.steps.push(Step::Component(component));
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    self.alias(alias?);
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    self.canonical(function?);
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    match import?.ty {
                        ComponentTypeRef::Module(_) => self.scope().modules.push(None),
                        ComponentTypeRef::Component(_) => self.scope().components.push(None),
                        _ => {}
                    }
                }
            }
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    // An export is a new index for what it exports.
                    let (scope, index) = (self.scope(), export.index as usize);
                    match export.kind {
                        ComponentExternalKind::Module => {
                            scope.modules.push(scope.modules.get(index).copied().flatten())
                        }
                        ComponentExternalKind::Component => {
                            scope.components.push(scope.components.get(index).copied().flatten());
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The component that is being read. Only called while one is.
    fn scope(&mut self) -> &mut Scope {
        match self.open.last_mut() {
            Some(Open::Component(scope)) => scope,
            _ => unreachable!("the payload belongs to a component"),
        }
    }

    fn core_instance(&mut self, instance: Instance<'_>) {
        let scope = self.scope();
        let (module_index, arguments) = match instance {
            Instance::FromExports(exports) => {
                let functions = exports.iter().map(|export| {
                    let is_function = matches!(export.kind, ExternalKind::Func | ExternalKind::FuncExact);
                    (export.name.to_owned(), is_function.then_some(export.index))
                });
                let bag = CoreInstance::Bag(functions.collect());
                scope.core_instances.push(bag);
                return;
            }
            Instance::Instantiate { module_index, args } => (module_index, args),
        };
        let module = scope.modules.get(module_index as usize).copied().flatten();
        scope.core_instances.push(CoreInstance::Of(module));
        scope.steps.push(Step::Module(module));
        let Some(module) = module else {
            // It may use any export of what it is given.
            for argument in &arguments {
                self.use_all(argument.index);
            }
            return;
        };
        // Only what the module imports is used of what it is given.
        let imports = self.outline.modules[module].imports.clone();
        for (namespace, field, kind) in imports {
            if !matches!(kind, ExternalKind::Func | ExternalKind::FuncExact) {
                continue;
            }
            if let Some(argument) = arguments.iter().find(|argument| argument.name == namespace) {
                self.use_export(argument.index, &field);
            }
        }
    }

    fn alias(&mut self, alias: ComponentAlias<'_>) {
        match alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                if matches!(kind, ExternalKind::Func | ExternalKind::FuncExact) {
                    self.scope().core_functions.push(Some((instance_index, name.to_owned())));
                }
            }
            ComponentAlias::InstanceExport { kind, .. } => match kind {
                ComponentExternalKind::Module => self.scope().modules.push(None),
                ComponentExternalKind::Component => self.scope().components.push(None),
                _ => {}
            },
            ComponentAlias::Outer { kind, count, index } => {
                let outer = self.open.iter().rev().nth(count as usize);
                let Some(Open::Component(outer)) = outer else { return };
                match kind {
                    ComponentOuterAliasKind::CoreModule => {
                        let module = outer.modules.get(index as usize).copied().flatten();
                        self.scope().modules.push(module);
                    }
                    ComponentOuterAliasKind::Component => {
                        let component = outer.components.get(index as usize).copied().flatten();
                        self.scope().components.push(component);
                    }
                    _ => {}
                }
            }
        }
    }

    fn canonical(&mut self, function: CanonicalFunction) {
        use CanonicalFunction as F;
        let builtin = match &function {
            F::ResourceNew { .. } => Some(Builtin::ResourceNew),
            F::BackpressureInc | F::BackpressureDec => Some(Builtin::Backpressure),
            F::ThreadSpawnRef { .. }
            | F::ThreadSpawnIndirect { .. }
            | F::ThreadNewIndirect { .. }
            | F::ThreadResumeLater
            | F::ThreadSuspend { .. }
            | F::ThreadSuspendThenResume { .. }
            | F::ThreadYieldThenResume { .. }
            | F::ThreadSuspendThenPromote { .. }
            | F::ThreadYieldThenPromote { .. } => Some(Builtin::Threads),
            _ => None,
        };
        self.outline.builtins.extend(builtin);
        let options = match &function {
            F::Lift { core_func_index, options, .. } => {
                self.use_core_function(*core_func_index);
                options
            }
            F::Lower { options, .. }
            | F::TaskReturn { options, .. }
            | F::StreamRead { options, .. }
            | F::StreamWrite { options, .. }
            | F::FutureRead { options, .. }
            | F::FutureWrite { options, .. }
            | F::ErrorContextNew { options }
            | F::ErrorContextDebugMessage { options } => options,
            _ => &Box::default(),
        };
        for option in options {
            if let CanonicalOption::Realloc(index)
            | CanonicalOption::PostReturn(index)
            | CanonicalOption::Callback(index) = option
            {
                self.use_core_function(*index);
            }
        }
        if !matches!(function, F::Lift { .. }) {
            self.scope().core_functions.push(None);
        }
    }

    fn use_core_function(&mut self, index: u32) {
        if let Some(Some((instance, name))) = self.scope().core_functions.get(index as usize).cloned() {
            self.use_export(instance, &name);
        }
    }

    fn use_export(&mut self, instance: u32, name: &str) {
        match self.scope().core_instances.get(instance as usize) {
            Some(CoreInstance::Of(Some(module))) => {
                let module = *module;
                self.outline.modules[module].used.insert(name.to_owned());
            }
            Some(CoreInstance::Bag(items)) => {
                let index = items.iter().find(|(item, _)| item == name).and_then(|(_, index)| *index);
                if let Some(index) = index {
                    self.use_core_function(index);
                }
            }
            _ => {}
        }
    }

    fn use_all(&mut self, instance: u32) {
        let names: Vec<String> = match self.scope().core_instances.get(instance as usize) {
            Some(CoreInstance::Of(Some(module))) => {
                let module = *module;
                self.outline.modules[module].exports.keys().cloned().collect()
            }
            Some(CoreInstance::Bag(items)) => items.iter().map(|(name, _)| name.clone()).collect(),
            _ => Vec::new(),
        };
        for name in names {
            self.use_export(instance, &name);
        }
    }

    fn finish(mut self) -> Outline {
        // The outermost component is the last one to end.
        if !self.components.is_empty() {
            expand(&self.components, self.components.len() - 1, &mut self.outline.instantiations);
        }
        self.outline
    }
}

/// A component that instantiates others instantiates their modules. A definition can only refer to earlier ones, so this
/// ends.
fn expand(components: &[Vec<Step>], component: usize, into: &mut Vec<Option<usize>>) {
    for step in &components[component] {
        match *step {
            Step::Module(module) => into.push(module),
            Step::Component(Some(inner)) => expand(components, inner, into),
            Step::Component(None) => into.push(None),
        }
    }
}

fn read_module(
    module: &mut Module,
    next_function: &mut u32,
    wasm: &[u8],
    payload: Payload<'_>,
) -> Result<(), BinaryReaderError> {
    match payload {
        Payload::ImportSection(imports) => {
            for import in imports.into_imports() {
                let import = import?;
                let kind = match import.ty {
                    TypeRef::Func(_) | TypeRef::FuncExact(_) => {
                        module.imported_functions += 1;
                        ExternalKind::Func
                    }
                    TypeRef::Table(table) => {
                        module.has_odd_table |= table.shared || table.table64;
                        ExternalKind::Table
                    }
                    TypeRef::Memory(_) => ExternalKind::Memory,
                    TypeRef::Global(global) => {
                        let is_mutable_i32 = global.mutable && global.content_type == ValType::I32;
                        module.globals.push(Global { name: import.name.to_owned(), is_mutable_i32, initial: None });
                        ExternalKind::Global
                    }
                    TypeRef::Tag(_) => ExternalKind::Tag,
                };
                module.imports.push((import.module.to_owned(), import.name.to_owned(), kind));
            }
        }
        Payload::TableSection(tables) => {
            for table in tables {
                let ty = table?.ty;
                module.has_odd_table |= ty.shared || ty.table64;
            }
        }
        Payload::MemorySection(memories) => {
            for memory in memories {
                let memory = memory?;
                let is_odd = memory.shared || memory.memory64 || memory.page_size_log2.is_some();
                module.memories.push(Memory { is_odd });
            }
        }
        Payload::GlobalSection(globals) => {
            for global in globals {
                let global = global?;
                let is_mutable_i32 = global.ty.mutable && global.ty.content_type == ValType::I32;
                let initial = match global.init_expr.get_operators_reader().read()? {
                    Operator::I32Const { value } => Some(value),
                    _ => None,
                };
                module.globals.push(Global { name: String::new(), is_mutable_i32, initial });
            }
        }
        Payload::ExportSection(exports) => {
            for export in exports {
                let export = export?;
                module.exports.insert(export.name.to_owned(), (export.kind, export.index));
            }
        }
        Payload::ElementSection(segments) => {
            for segment in segments {
                read_elements(module, segment?.items)?;
            }
        }
        Payload::DataSection(segments) => {
            for segment in segments {
                module.data.push(read_segment(&segment?, wasm)?);
            }
        }
        Payload::CodeSectionStart { .. } => *next_function = module.imported_functions,
        Payload::CodeSectionEntry(body) => {
            module.bodies.push(body.range());
            read_function(module, *next_function, &body)?;
            *next_function += 1;
        }
        Payload::CustomSection(section) => {
            if let KnownCustom::Name(names) = section.as_known() {
                // A broken name section is not an error of the module.
                for name in names.into_iter().flatten() {
                    read_names(module, name);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn read_elements(module: &mut Module, items: ElementItems<'_>) -> Result<(), BinaryReaderError> {
    match items {
        ElementItems::Functions(functions) => {
            for function in functions {
                module.referenced.insert(function?);
            }
        }
        ElementItems::Expressions(_, expressions) => {
            for expression in expressions {
                for operator in expression?.get_operators_reader() {
                    if let Operator::RefFunc { function_index } = operator? {
                        module.referenced.insert(function_index);
                    }
                }
            }
        }
    }
    Ok(())
}

fn read_segment(segment: &Data<'_>, wasm: &[u8]) -> Result<Segment, BinaryReaderError> {
    let DataKind::Active { memory_index: 0, offset_expr } = &segment.kind else { return Ok(Segment::Other) };
    let mut operators = offset_expr.get_operators_reader();
    let first = operators.read()?;
    let (Operator::I32Const { value }, true) = (first, matches!(operators.read()?, Operator::End)) else {
        return Ok(Segment::Other);
    };
    // The reader hands out slices of the component's bytes; where they are is the difference of the addresses.
    let start = segment.data.as_ptr().addr() - wasm.as_ptr().addr();
    Ok(Segment::Fixed { offset: value.cast_unsigned(), bytes: start..start + segment.data.len() })
}

fn read_function(module: &mut Module, function: u32, body: &FunctionBody<'_>) -> Result<(), BinaryReaderError> {
    let mut operators = body.get_operators_reader()?;
    while !operators.eof() {
        let effect = match operators.read()? {
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                module.calls.entry(function).or_default().insert(function_index);
                continue;
            }
            Operator::RefFunc { function_index } => {
                module.referenced.insert(function_index);
                continue;
            }
            Operator::MemoryInit { .. } => {
                module.refers_to_data = true;
                continue;
            }
            Operator::GlobalSet { global_index } => Effect::Global(global_index),
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. } => Effect::Table,
            Operator::DataDrop { .. } => {
                module.refers_to_data = true;
                Effect::Drop
            }
            Operator::ElemDrop { .. } => Effect::Drop,
            operator if is_exotic(&operator) => Effect::Exotic,
            _ => continue,
        };
        let of_this_function = module.effects.iter().rev().take_while(|(by, _)| *by == function);
        if !of_this_function.into_iter().any(|(_, known)| *known == effect) {
            module.effects.push((function, effect));
        }
    }
    Ok(())
}

/// Instructions of proposals that keep state elsewhere. The engine has most of them switched off.
fn is_exotic(operator: &Operator<'_>) -> bool {
    matches!(
        operator,
        Operator::Throw { .. }
            | Operator::ThrowRef
            | Operator::TryTable { .. }
            | Operator::StructNew { .. }
            | Operator::StructNewDefault { .. }
            | Operator::ArrayNew { .. }
            | Operator::ArrayNewDefault { .. }
            | Operator::ArrayNewFixed { .. }
            | Operator::ArrayNewData { .. }
            | Operator::ArrayNewElem { .. }
            | Operator::RefI31
            | Operator::MemoryAtomicNotify { .. }
            | Operator::MemoryAtomicWait32 { .. }
            | Operator::MemoryAtomicWait64 { .. }
            | Operator::GlobalAtomicSet { .. }
            | Operator::TableAtomicSet { .. }
            | Operator::ContNew { .. }
            | Operator::ContBind { .. }
            | Operator::Suspend { .. }
            | Operator::Resume { .. }
            | Operator::Switch { .. }
    )
}

fn read_names(module: &mut Module, name: Name<'_>) {
    match name {
        Name::Module { name, .. } => name.clone_into(&mut module.name),
        Name::Function(names) => {
            module.function_names.extend(names.into_iter().flatten().map(|name| (name.index, name.name.to_owned())));
        }
        Name::Global(names) => {
            for name in names.into_iter().flatten() {
                if let Some(global) = module.globals.get_mut(name.index as usize)
                    && global.name.is_empty()
                {
                    name.name.clone_into(&mut global.name);
                }
            }
        }
        _ => {}
    }
}
