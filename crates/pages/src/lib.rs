//! A global allocator that keeps large tables on huge pages.
//!
//! The exchange looks into tables of hundreds of megabytes at random places. With pages of 4 KiB nearly each look also misses
//! the translation of the address, and on a virtual machine that costs more than the memory itself, which not even asking
//! ahead hides. So what is larger than [`LARGE_BYTES`] gets its own mapping, aligned to 2 MiB, for which the kernel is
//! asked for huge pages (`MADV_HUGEPAGE`; it may have none to give, and then nothing is different). Growing such a table
//! moves its pages and copies nothing. Everything smaller is the system allocator's business.
//!
//! [`back_soon`] has the pages of tables found and cleared before anybody needs them.

#![cfg(target_os = "linux")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::io;
use std::ops::Range;
use std::ptr::null_mut;

use rustix::mm::{Advice, MapFlags, MremapFlags, ProtFlags, madvise, mmap_anonymous, mremap_fixed, munmap};

/// From this size on an allocation is large.
pub const LARGE_BYTES: usize = 4 << 20;

/// The size of a huge page, to which large allocations are aligned and rounded up.
const PAGE_BYTES: usize = 2 << 20;

/// The size of any other page.
const SMALL_PAGE_BYTES: usize = 4 << 10;

/// See the crate. Declare it with `#[global_allocator]`.
pub struct HugePages;

// SAFETY: small layouts go to `System` as they are. Large ones are mappings of their own: zeroed, aligned to `PAGE_BYTES`,
// which is at least the layout's alignment (or they are refused), and at least as large as asked for. Whether a pointer is
// small or large follows from the size of the layout that came with it, which is the same when it is given back.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size()) {
            return map(layout);
        }
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout.size()) {
            return map(layout);
        }
        // SAFETY: as promised by the caller.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_large(layout.size()) {
            // SAFETY: the whole mapping was made by `map` for this layout, and nobody uses it any more.
            unsafe { unmap(pointer, rounded(layout.size())) };
        } else {
            // SAFETY: as promised by the caller; it came from `System`.
            unsafe { System.dealloc(pointer, layout) };
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !is_large(layout.size()) && !is_large(new_size) {
            // SAFETY: as promised by the caller; it came from `System`.
            return unsafe { System.realloc(pointer, layout, new_size) };
        }
        let both_large = is_large(layout.size()) && is_large(new_size);
        if both_large && rounded(layout.size()) == rounded(new_size) {
            return pointer;
        }
        let Ok(new_layout) = Layout::from_size_align(new_size, layout.align()) else {
            return null_mut();
        };
        // SAFETY: the new layout is not of size 0, as promised by the caller.
        let new = unsafe { self.alloc(new_layout) };
        if new.is_null() {
            return null_mut();
        }
        let new = if both_large && new_size > layout.size() {
            // SAFETY: both are mappings of their own, of the rounded sizes.
            if unsafe { move_pages(pointer, rounded(layout.size()), new, rounded(new_size)) } {
                return new;
            }
            // The kernel may have unmapped `new` before it failed, and somebody else may have the range by now. Whatever is
            // left of it is left alone.
            // SAFETY: as before.
            let again = unsafe { self.alloc(new_layout) };
            if again.is_null() {
                return null_mut();
            }
            again
        } else {
            new
        };
        // SAFETY: both are as large as is copied, and they are two allocations.
        unsafe { std::ptr::copy_nonoverlapping(pointer, new, layout.size().min(new_size)) };
        // SAFETY: it came from this allocator with this layout.
        unsafe { self.dealloc(pointer, layout) };
        new
    }
}

fn is_large(size: usize) -> bool {
    size >= LARGE_BYTES
}

/// The size of the mapping of a large allocation.
fn rounded(size: usize) -> usize {
    size.next_multiple_of(PAGE_BYTES)
}

/// A new mapping, zeroed and aligned; null if there is none to be had.
fn map(layout: Layout) -> *mut u8 {
    if layout.align() > PAGE_BYTES || layout.size() > isize::MAX as usize - 2 * PAGE_BYTES {
        return null_mut();
    }
    let size = rounded(layout.size());
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let mapping = unsafe { mmap_anonymous(null_mut(), size + PAGE_BYTES, protection, MapFlags::PRIVATE) };
    let Ok(start) = mapping else {
        return null_mut();
    };
    let start = start.cast::<u8>();
    let before = start.align_offset(PAGE_BYTES);
    let pointer = start.wrapping_add(before);
    // SAFETY: both ends were just mapped, lie outside of what is given out, and nobody knows them.
    unsafe {
        unmap(start, before);
        unmap(pointer.wrapping_add(size), PAGE_BYTES - before);
    }
    // SAFETY: the range is this mapping's own. That the kernel may decline is no matter.
    let _ = unsafe { madvise(pointer.cast::<c_void>(), size, Advice::LinuxHugepage) };
    pointer
}

/// # Safety
///
/// The range is mapped, made of whole pages, and nobody uses it any more.
unsafe fn unmap(pointer: *mut u8, size: usize) {
    if size > 0 {
        // SAFETY: as promised by the caller. Should it fail, the range stays mapped, which harms nobody.
        let _ = unsafe { munmap(pointer.cast::<c_void>(), size) };
    }
}

/// Moves the pages of one mapping over the beginning of another, if both have room, and tells whether it did.
///
/// # Safety
///
/// Both are mappings of these sizes that were made by [`map`], and the caller goes on with the second one only.
unsafe fn move_pages(from: *mut u8, from_size: usize, to: *mut u8, to_size: usize) -> bool {
    debug_assert!(from_size <= to_size, "it has room");
    let flags = MremapFlags::MAYMOVE;
    // SAFETY: the pages of `from` replace the first ones of `to`, which are fresh and unused; `from` is then unmapped.
    unsafe { mremap_fixed(from.cast::<c_void>(), from_size, from_size, flags, to.cast::<c_void>()) }.is_ok()
}

/// Has the system back tables with memory, one huge page after another, on a thread of its own that ends with that. So
/// the first to come upon a page does not wait until it is found and cleared, which on a virtual machine may take
/// milliseconds. What the tables hold does not change; of a table that is gone by then nothing is read or written.
///
/// # Errors
/// If the system gives no thread.
pub fn back_soon(tables: Vec<Range<*const u8>>) -> io::Result<()> {
    let tables: Vec<Range<usize>> = tables
        .into_iter()
        .map(|table| table.start.addr()..table.end.addr())
        .collect();
    let work = move || {
        for table in tables {
            // The kernel is older than 5.14, there is no memory, or the table is gone: pages come when they are needed.
            let _ = back(table);
        }
    };
    std::thread::Builder::new().name("pages".to_owned()).spawn(work)?;
    Ok(())
}

fn back(table: Range<usize>) -> rustix::io::Result<()> {
    // Whole pages only: what shares a page with the table is not its business.
    let first = table.start.next_multiple_of(SMALL_PAGE_BYTES);
    for start in (first..table.end).step_by(PAGE_BYTES) {
        let size = (table.end - start).min(PAGE_BYTES) / SMALL_PAGE_BYTES * SMALL_PAGE_BYTES;
        let pointer = std::ptr::with_exposed_provenance_mut::<c_void>(start);
        // SAFETY: it faults pages in as a write would, and changes no byte, whoever has the range by now.
        unsafe { madvise(pointer, size, Advice::LinuxPopulateWrite) }?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: HugePages = HugePages;

    #[test]
    fn tables_keep_their_content_as_they_grow_and_shrink() {
        let mut table: Vec<u64> = Vec::new();
        for number in 0..3_000_000 {
            table.push(number);
        }
        assert!(table.iter().zip(0..).all(|(word, number)| *word == number));
        table.truncate(700_000);
        table.shrink_to_fit();
        assert!(table.iter().zip(0..).all(|(word, number)| *word == number));
        table.truncate(100);
        table.shrink_to_fit();
        assert!(table.iter().zip(0..).all(|(word, number)| *word == number));
    }

    /// How many of the table's pages the system has backed.
    fn backed(table: &[u64]) -> usize {
        let pagemap = std::fs::File::open("/proc/self/pagemap").unwrap();
        let pages = table.chunks(SMALL_PAGE_BYTES / 8);
        pages
            .filter(|page| {
                let mut entry = [0; 8];
                let number = page.as_ptr().addr() / SMALL_PAGE_BYTES;
                pagemap.read_exact_at(&mut entry, number as u64 * 8).unwrap();
                u64::from_ne_bytes(entry) >> 63 == 1
            })
            .count()
    }

    #[test]
    fn what_is_backed_soon_is_backed_and_unchanged() {
        let mut table = vec![0_u64; 1 << 20];
        table[70_000] = 7;
        assert!(backed(&table) < 2_048, "it is not touched yet");
        let range = table.as_ptr_range();
        let page = range.start.addr()..range.start.addr() + PAGE_BYTES;
        if back(page) == Err(rustix::io::Errno::INVAL) {
            return println!("SKIPPED what_is_backed_soon_is_backed_and_unchanged: the kernel is older than 5.14");
        }
        back_soon(vec![range.start.cast()..range.end.cast()]).unwrap();
        while backed(&table) < 2_048 {
            std::thread::yield_now();
        }
        assert_eq!(table[70_000], 7);
        assert_eq!(table.iter().sum::<u64>(), 7);
        assert!(back(0..PAGE_BYTES).is_err(), "a table that is gone is left alone");
    }

    #[test]
    fn large_ones_are_zeroed_and_aligned() {
        for _ in 0..3 {
            let mut table = vec![0_u8; LARGE_BYTES + 1];
            assert_eq!(table.as_ptr().align_offset(PAGE_BYTES), 0);
            assert!(table.iter().all(|byte| *byte == 0));
            table.fill(7);
        }
    }
}
