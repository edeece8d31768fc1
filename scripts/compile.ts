/**
 * Writes what V8 makes of a script's text when it compiles all of it, also what is called later or never: src/start.ts
 * takes it instead of parsing the text. It is for the Node that runs this, and for flags that do not concern code.
 *   node --random-seed=1 scripts/compile.ts TEXT COMPILED
 * With the seed the same text gives the same bytes. V8 takes them under any other seed, too.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { Script } from 'node:vm'

const [text, compiled] = process.argv.slice(2)
setFlagsFromString('--no-lazy')
const script = new Script(readFileSync(text!, 'latin1'))
// As it is at a start: what flags have made is refused under others.
setFlagsFromString('--lazy')
writeFileSync(compiled!, script.createCachedData())
