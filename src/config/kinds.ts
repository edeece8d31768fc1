/** Kinds of fields: what each takes, its default where it is absent or null, and what it says of anything else. */
import * as z from 'zod'
import { expected } from './config-error.ts'
import { formatDuration, parseDuration } from './duration.ts'

// A schema is used once: compiling it for later takes longer than going through it.
z.config({ jitless: true })

const MAX_INT32 = 2 ** 31 - 1

// Kinds stand once, and what many fields are is one schema: making a schema costs more than its use.
const anything = z.unknown().optional()
type Field<Value> = z.ZodPipe<typeof anything, z.ZodTransform<Value>>
type Parse = (text: string) => string | undefined

const isAbsent = (value: unknown): value is undefined | null => value === undefined || value === null

/** A field; `read` gives undefined for what it cannot read. */
function field<Value>(
  what: string,
  fallback: Value,
  read: (value: unknown) => Value | undefined,
): Field<Value> {
  return anything.transform((value, context): Value => {
    const result = isAbsent(value) ? fallback : read(value)
    if (result !== undefined) return result
    context.addIssue({ code: 'custom', message: expected(what, value) })
    return z.NEVER
  })
}

/** Numbers and booleans are text where text is wanted, as to sigs.k8s.io/yaml. */
function textOf(value: unknown): string | undefined {
  if (typeof value === 'string') return value.trim()
  return typeof value === 'boolean' || Number.isFinite(value) ? String(value) : undefined
}

/** Text with a meaning; empty text is the default, too. */
export const parsedText = (what: string, fallback: string, parse: Parse): Field<string> =>
  field(what, fallback, (value) => {
    const text = textOf(value)
    return text === '' ? fallback : text && parse(text)
  })

export const text = (fallback: string): Field<string> => parsedText('text', fallback, (value) => value)
export const anyText = text('')

export const oneOf = <const Words extends readonly string[]>(
  words: Words,
  fallback: Words[number],
): Field<Words[number]> =>
  field<Words[number]>(`one of ${words.join(', ')}`, fallback, (value) =>
    value === '' ? fallback : words.find((word) => word === value),
  )

/** What must be there, as it is; `advice` goes on from what is expected. */
export const exactly = <const Word extends string>(word: Word, advice = ''): z.ZodLiteral<Word> =>
  z.literal(word, { error: ({ input }) => `${expected(`"${word}"`, input)}${advice}` })

export const flag = (fallback: boolean): Field<boolean> =>
  field('true or false', fallback, (value) => (typeof value === 'boolean' ? value : undefined))
export const off = flag(false)

export const integer = (fallback: number, min: number, max = MAX_INT32): Field<number> =>
  field(`a whole number from ${min} to ${max}`, fallback, (value) =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max ? value : undefined,
  )

/** A number for which 0 stands for the default. */
export const countOrDefault = (fallback: number): Field<number> =>
  field('a number of 0 or more', fallback, (value) =>
    typeof value === 'number' && Number.isFinite(value) && value >= 0 ? value || fallback : undefined,
  )

interface DurationOptions {
  readonly fallback?: string
  /** 0 stands for the default. */
  readonly isZeroDefault?: boolean
}

/** metav1.Duration, as canonical text. */
export const duration = ({ fallback = '0s', isZeroDefault = false }: DurationOptions): Field<string> =>
  field('a duration of 0 or more, such as 30s', fallback, (value) => {
    const ms = typeof value === 'string' ? parseDuration(value) : undefined
    if (ms === undefined || ms < 0) return undefined
    return ms === 0 && isZeroDefault ? fallback : formatDuration(ms)
  })
export const anyDuration = duration({})

/** What belongs to another mode: as kube-proxy in mode ipvs prints it. */
export const durationOfOtherMode = anyDuration.transform(() => '0s')

/** logging.flushFrequency may be in nanoseconds, too. */
export const flushFrequency = anything
  .transform((value) => (typeof value === 'number' ? formatDuration(Math.floor(value / 1e6)) : value))
  .pipe(duration({ fallback: '5s', isZeroDefault: true }))

export const quantity = field('a quantity such as 10Mi', '0', (value) =>
  typeof value === 'string' || Number.isFinite(value) ? String(value) : undefined,
)

/** A list of text; every item that cannot be read is a fault of its own. */
export const listOf = (what: string, parse: Parse): Field<readonly string[]> =>
  anything.transform((value, context): readonly string[] => {
    if (isAbsent(value)) return []
    if (!Array.isArray(value)) {
      context.addIssue({ code: 'custom', message: expected('a list', value) })
      return z.NEVER
    }
    return value.map((item: unknown, i) => {
      const text = textOf(item)
      const parsed = text && parse(text)
      if (parsed) return parsed
      context.addIssue({ code: 'custom', path: [i], message: expected(what, item) })
      return z.NEVER
    })
  })

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

const isFlag = (entry: [string, unknown]): entry is [string, boolean] => typeof entry[1] === 'boolean'

/** Gates by name; every value that is none is a fault of its own. */
export const gates = anything.transform((value, context): Readonly<Record<string, boolean>> => {
  if (isAbsent(value)) return {}
  if (!isObject(value)) {
    context.addIssue({ code: 'custom', message: expected('names of gates with true or false', value) })
    return z.NEVER
  }
  const entries = Object.entries(value)
  for (const [name, wrong] of entries.filter((entry) => !isFlag(entry)))
    context.addIssue({ code: 'custom', path: [name], message: expected('true or false', wrong) })
  return Object.fromEntries(entries.filter(isFlag))
})

interface Module {
  readonly filePattern: string
  readonly verbosity: number
}

function moduleOf(value: unknown): Module | undefined {
  const { filePattern, verbosity } = isObject(value) ? value : {}
  const isModule = typeof filePattern === 'string' && filePattern !== '' && Number.isInteger(verbosity)
  return isModule && Number(verbosity) >= 0 ? { filePattern, verbosity: Number(verbosity) } : undefined
}

export const vmodule = field<readonly Module[]>('a list of filePattern and verbosity', [], (value) => {
  const modules = Array.isArray(value) ? value.map(moduleOf) : [undefined]
  const known = modules.filter((module) => module !== undefined)
  return known.length === modules.length ? known : undefined
})

const MAPPING = { error: ({ input }: { readonly input?: unknown }) => expected('a mapping of fields', input) }

/** The whole document. */
export const fields = <Shape extends z.ZodRawShape>(shape: Shape): z.ZodObject<Shape> =>
  z.object(shape, MAPPING)

/** Fields below a field. */
export const section = <Shape extends z.ZodRawShape>(shape: Shape): z.ZodPreprocess<z.ZodObject<Shape>> =>
  z.preprocess((value) => value ?? {}, fields(shape))
