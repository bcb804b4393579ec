//! The heap of a module: memory lives as long as a call, so blocks are never merged.

use core::alloc::{GlobalAlloc, Layout};
use core::arch::wasm32::{memory_grow, memory_size};
use core::cell::UnsafeCell;
use core::ptr::{null_mut, write_bytes};

/// Blocks are powers of two from 16 bytes on; those that are free form a list for each size. All begin at a
/// multiple of 16; what needs more, which is rare, takes no block that was used before. The first ones are cut from
/// what the module's first pages leave, so that most calls need not grow their memory: an instance that grew cannot be used again.
struct Heap(UnsafeCell<State>);

struct State {
    next: usize, // where the next block is cut; 0 before the first
    free: [usize; 32],
}

unsafe impl Sync for Heap {} // a contract has one thread

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new(State { next: 0, free: [0; 32] }));

extern "C" {
    static __heap_base: u8;
}

const PAGE: usize = 64 << 10;

fn block(layout: &Layout) -> usize {
    layout.size().max(layout.align()).max(16).next_power_of_two()
}

unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let heap = &mut *self.0.get();
        let size = block(&layout);
        let free = &mut heap.free[size.trailing_zeros() as usize];
        if *free != 0 && layout.align() <= 16 {
            let found = *free;
            *free = *(found as *const usize);
            return found as *mut u8;
        }
        if heap.next == 0 {
            heap.next = (&__heap_base as *const u8 as usize).wrapping_add(15) & !15;
        }
        let align = layout.align().max(16);
        let at = heap.next.wrapping_add(align - 1) & !(align - 1);
        let (end, over) = at.overflowing_add(size);
        if over || at < heap.next {
            return null_mut();
        }
        let have = memory_size(0) << 16;
        if end > have && memory_grow(0, (end - have + PAGE - 1) / PAGE) == usize::MAX {
            return null_mut();
        }
        heap.next = end;
        at as *mut u8
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let found = self.alloc(layout);
        if !found.is_null() {
            write_bytes(found, 0, layout.size());
        }
        found
    }

    unsafe fn dealloc(&self, found: *mut u8, layout: Layout) {
        let free = &mut (*self.0.get()).free[block(&layout).trailing_zeros() as usize];
        *(found as *mut usize) = *free;
        *free = found as usize;
    }

    unsafe fn realloc(&self, found: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let wanted = Layout::from_size_align_unchecked(size, layout.align());
        if block(&wanted) == block(&layout) {
            return found;
        }
        let moved = self.alloc(wanted);
        if !moved.is_null() {
            found.copy_to_nonoverlapping(moved, size.min(layout.size()));
            self.dealloc(found, layout);
        }
        moved
    }
}
