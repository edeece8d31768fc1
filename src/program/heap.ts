/**
 * How far V8's old generation grows between collections. Said while the program runs: with such flags in its first
 * line, V8 would refuse what Node brings compiled of its own modules, and parse them at every start. Both are numbers
 * that V8 reads whenever it decides about a collection. What Node loads later is parsed, too, threads' modules included:
 * so they wait for the end of the start, or for a list that makes the heap grow.
 */
import { setFlagsFromString } from 'node:v8'

/** By 40 %, and at least 8 MiB, where V8 would let it grow to several times what is in use. For what stays. */
export function keepHeapSmall(): void {
  setFlagsFromString('--heap-growing-percent=40')
}

/**
 * Collects when a third of that is used, as what changes leave behind comes slowly: memory stays where it is. For when
 * the start is over, which would have to collect more often than is worth it.
 */
export function keepHeapSteady(): void {
  setFlagsFromString('--incremental-marking-soft-trigger=30')
}
