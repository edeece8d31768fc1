/**
 * How far V8 lets the heap grow before it collects garbage. V8 reads both numbers at every collection, so they can be set
 * while the program runs.
 *
 * They are no flags of the command line, for the sake of the start: with these, V8 refuses the compiled code that Node
 * brings of its own modules, and parses their text instead. The same goes for what is loaded after a call, and for threads
 * that begin after it. So the functions are called late: when the start is over, or when a list makes the heap grow.
 */
import { setFlagsFromString } from 'node:v8'

/**
 * Collects when the heap has grown by 40 %, and by 8 MiB at least. By itself V8 would let it grow to several times of what
 * is in use. This keeps small what is in use for long, such as lists.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--heap-growing-percent=40')
}

/**
 * Begins to collect when 30 % of that growth is used, so that memory stays where it is while changes leave garbage behind,
 * slowly. Not for the start: it makes so much that it would collect more often than is worth it.
 */
export function keepHeapSteady(): void {
  setFlagsFromString('--incremental-marking-soft-trigger=30')
}
