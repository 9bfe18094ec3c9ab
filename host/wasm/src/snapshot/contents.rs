//! Makes a component fit for snapshots: takes the initial contents of memories out of it, so that an instance maps them
//! instead of copying them, and fences what must not run.
//!
//! A Python application has 12 MiB of them. Copied at each instantiation they cost 3 to 6 ms and as much memory; mapped
//! copy-on-write they cost what is touched. (wasmtime does the same for memories that it allocates itself.)

use std::collections::HashSet;

use wasmparser::ExternalKind;

use super::{
    PAGE_BYTES,
    outline::{Module, Outline, Segment},
};

/// A component as it is to be compiled, and what has been taken out of it.
pub(super) struct Split {
    pub(super) wasm: Vec<u8>,
    /// Of each memory, in the order in which instantiation makes them: whole pages, perhaps none.
    pub(super) memories: Vec<Vec<u8>>,
}

/// Splits a component. A module whose segments are not all plain keeps them, and its memory then begins empty.
pub(super) fn split(wasm: &[u8], outline: &Outline) -> Split {
    let is_known = !outline.instantiations.contains(&None);
    let plain = |module: &Module| is_known && is_plain(module);
    let stripped: HashSet<usize> =
        outline.modules.iter().filter(|module| plain(module)).map(|module| module.range.start).collect();
    let mut memories = Vec::new();
    for module in outline.instantiations.iter().flatten().map(|&index| &outline.modules[index]) {
        for _ in &module.memories {
            memories.push(if plain(module) { contents(wasm, &module.data) } else { Vec::new() });
        }
    }
    let fenced = outline.modules.iter().filter_map(|module| Some(module.body(module.build_only()?)?.start)).collect();
    let mut rewritten = Vec::with_capacity(wasm.len());
    Changes { stripped, fenced }.rewrite_component(wasm, 0, &mut rewritten);
    Split { wasm: rewritten, memories }
}

/// Whether all data goes to fixed places in the one memory that the module itself defines.
fn is_plain(module: &Module) -> bool {
    let imports_memory = module.imports.iter().any(|(_, _, kind)| *kind == ExternalKind::Memory);
    let is_fixed = |segment: &Segment| match segment {
        // An offset near 4 GiB would make an image of that size; such a module traps at instantiation, or is odd.
        Segment::Fixed { offset, bytes } => *offset as usize + bytes.len() <= CONTENT_BYTES_MAX,
        Segment::Other => false,
    };
    let [memory] = module.memories.as_slice() else { return false };
    !memory.is_odd && !imports_memory && !module.refers_to_data && module.data.iter().all(is_fixed)
}

/// More than a component may be long.
const CONTENT_BYTES_MAX: usize = 1 << 30;

fn contents(wasm: &[u8], segments: &[Segment]) -> Vec<u8> {
    let mut image = Vec::new();
    // In the order of the module: a later segment may write over an earlier one.
    for segment in segments {
        let Segment::Fixed { offset, bytes } = segment else { continue };
        let (start, end) = (*offset as usize, *offset as usize + bytes.len());
        if image.len() < end {
            image.resize(end.next_multiple_of(PAGE_BYTES), 0);
        }
        image[start..end].copy_from_slice(&wasm[bytes.clone()]);
    }
    image
}

/// What is changed, by where it begins in the component.
struct Changes {
    /// Modules that lose their data.
    stripped: HashSet<usize>,
    /// Bodies of functions that trap from now on. `check` has taken it for granted that they never run: what they change
    /// would not be put back.
    fenced: HashSet<usize>,
}

impl Changes {
    /// Copies a component section by section (component-model Binary.md: a byte, a length, the content). `at` is where
    /// `component` begins in the whole.
    fn rewrite_component(&self, component: &[u8], at: usize, out: &mut Vec<u8>) {
        const MODULE: u8 = 1;
        const COMPONENT: u8 = 4;
        out.extend_from_slice(&component[..PREAMBLE_BYTES]);
        for section in sections(component) {
            let content = &component[section.content.clone()];
            let content_at = at + section.content.start;
            let mut inner = Vec::new();
            match section.id {
                MODULE => self.rewrite_module(content, content_at, &mut inner),
                COMPONENT => self.rewrite_component(content, content_at, &mut inner),
                _ => {
                    out.extend_from_slice(&component[section.start..section.content.end]);
                    continue;
                }
            }
            out.push(section.id);
            write_length(inner.len(), out);
            out.append(&mut inner);
        }
    }

    fn rewrite_module(&self, module: &[u8], at: usize, out: &mut Vec<u8>) {
        const CODE: u8 = 10;
        const DATA: u8 = 11;
        const DATA_COUNT: u8 = 12;
        out.extend_from_slice(&module[..PREAMBLE_BYTES]);
        for section in sections(module) {
            let range = at + section.content.start..at + section.content.end;
            match section.id {
                DATA | DATA_COUNT if self.stripped.contains(&at) => {}
                CODE if self.fenced.iter().any(|body| range.contains(body)) => {
                    let mut inner = Vec::new();
                    self.rewrite_code(&module[section.content.clone()], range.start, &mut inner);
                    out.push(section.id);
                    write_length(inner.len(), out);
                    out.append(&mut inner);
                }
                _ => out.extend_from_slice(&module[section.start..section.content.end]),
            }
        }
    }

    /// A code section is a number of bodies, and each a length and its bytes.
    fn rewrite_code(&self, code: &[u8], at: usize, out: &mut Vec<u8>) {
        /// No locals, `unreachable`, `end`.
        const TRAP: [u8; 3] = [0x00, 0x00, 0x0b];
        let mut position = 0;
        let count = read_length(code, &mut position).unwrap_or_default();
        write_length(count, out);
        for _ in 0..count {
            let Some(length) = read_length(code, &mut position) else { return };
            let body = position..(position + length).min(code.len());
            let bytes = if self.fenced.contains(&(at + position)) { &TRAP } else { &code[body.clone()] };
            write_length(bytes.len(), out);
            out.extend_from_slice(bytes);
            position = body.end;
        }
    }
}

/// The magic number, the version and the layer.
const PREAMBLE_BYTES: usize = 8;

struct Section {
    id: u8,
    start: usize,
    content: std::ops::Range<usize>,
}

/// The sections of a module or component that has been read to its end before, so that its lengths are right.
fn sections(binary: &[u8]) -> impl Iterator<Item = Section> {
    let mut position = PREAMBLE_BYTES;
    std::iter::from_fn(move || {
        let (start, id) = (position, *binary.get(position)?);
        position += 1;
        let length = read_length(binary, &mut position)?;
        let content = position..(position + length).min(binary.len());
        position = content.end;
        Some(Section { id, start, content })
    })
}

/// LEB128, up to 32 bits.
fn read_length(bytes: &[u8], position: &mut usize) -> Option<usize> {
    let mut length = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.get(*position)?;
        *position += 1;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(length);
        }
    }
    None
}

fn write_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let byte = u8::try_from(length & 0x7f).unwrap_or_default();
        length >>= 7;
        if length == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}
