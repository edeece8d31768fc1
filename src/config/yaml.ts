/**
 * A file's text as kube-proxy reads it: the first YAML document and nothing after it, with what YAML 1.1 means to
 * goyaml.v2. JSON is YAML, too. Pure: text in, value out; faults in words for operators.
 */
import {
  type Alias,
  type Document,
  type ErrorCode,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  type Pair,
  parseDocument,
  type Scalar,
  type ScalarTag,
  type Tags,
  visit,
  type YAMLError,
} from 'yaml'
import { ConfigError } from './config-error.ts'

/** What a file's first document says, and what of the file does not count. */
export interface Reading {
  readonly value: unknown
  /** A sentence each. */
  readonly warnings: readonly string[]
}

// --- What YAML 1.1 is to goyaml.v2 ----------------------------------------------------------------------

const INTEGER = /^(?:0x[0-9a-f]+|0o?[0-7]+|0b[01]+|[0-9]+)$/i
const FLOAT = /^(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:e[-+]?[0-9]+)?$/i

/** Undefined for text that is none, and for what a number of JavaScript cannot hold. */
function numberOf(text: string): number | undefined {
  const plain = text.replaceAll('_', '').replace(/^[-+]/, '')
  const isInteger = INTEGER.test(plain)
  if (!isInteger && !FLOAT.test(plain)) return undefined
  const number = Number(plain.replace(/^0(?=[0-7]+$)/, '0o'))
  if (!(isInteger ? Number.isSafeInteger(number) : Number.isFinite(number))) return undefined
  return text.startsWith('-') ? 0 - number : number
}

const NUMBERS = ['int', 'float'].map((name): ScalarTag => ({
  tag: `tag:yaml.org,2002:${name}`,
  default: true,
  test: /^[-+]?\.?[0-9]/,
  resolve: (text) => numberOf(text) ?? text,
}))

/** Beside numbers. There are no dates and no numbers of base 60: these stay text. */
const KEPT = ['map', 'seq', 'str', 'null', 'bool', 'merge'].map((name) => `tag:yaml.org,2002:${name}`)

const OPTIONS = {
  version: '1.1',
  schema: 'yaml-1.1',
  merge: true,
  resolveKnownTags: false,
  customTags: (tags: Tags): Tags => [
    ...tags.filter((tag) => typeof tag !== 'string' && KEPT.includes(tag.tag)),
    ...NUMBERS,
  ],
  // Its warnings would go to the process.
  logLevel: 'error',
} as const

// --- Faults ---------------------------------------------------------------------------------------------

/** What is wrong, by the parser's codes. */
const WRONG: Readonly<Record<ErrorCode, string>> = {
  ALIAS_PROPS: 'an alias (*name) cannot have an anchor or a tag',
  BAD_ALIAS: 'an anchor (&) or an alias (*) needs a name',
  BAD_COLLECTION_TYPE: 'this tag (!) does not fit what follows it',
  BAD_DIRECTIVE: 'this line begins with % and is no directive of YAML',
  BAD_DQ_ESCAPE: 'unknown escape in double quotes: write \\\\ for a backslash, or use single quotes',
  BAD_INDENT: 'the indentation does not fit, or a closing } or ] is missing before',
  BAD_PROP_ORDER: 'an anchor (&) or a tag (!) stands in the wrong place',
  BAD_SCALAR_START: 'a value cannot begin with this character: put the value into quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a second field on one line: begin a new line, or put the value into quotes',
  BLOCK_IN_FLOW: 'this cannot stand between brackets: is a closing } or ] missing?',
  DUPLICATE_KEY: 'this field is repeated',
  IMPOSSIBLE: 'this is not YAML',
  KEY_OVER_1024_CHARS: 'the name of a field is longer than 1024 characters: is a quote missing?',
  MISSING_CHAR: 'a space, a comma or a closing } or ] is missing here or before',
  MULTILINE_IMPLICIT_KEY: 'the name of a field goes over several lines: is a colon or a quote missing?',
  MULTIPLE_ANCHORS: 'a value can have one anchor (&) only',
  MULTIPLE_DOCS: 'another document begins here',
  MULTIPLE_TAGS: 'a value can have one tag (!) only',
  NON_STRING_KEY: 'the name of a field must be text',
  RESOURCE_EXHAUSTION: 'fields are nested too deeply',
  TAB_AS_INDENT: 'a tab indents this line: use spaces',
  TAG_RESOLVE_FAILED: 'this tag (!) does not fit its value',
  UNEXPECTED_TOKEN: 'this is not expected here: is a quote or a bracket missing before it?',
}

/** The parser has one code for whatever is missing, but different words. */
const MISSING: readonly (readonly [RegExp, string])[] = [
  [/map keys need to be followed by/, 'a colon is missing after the name of a field'],
  [/quote$/, 'a closing quote is missing'],
]

function wrong({ code, message, pos }: YAMLError): Wrong {
  // Further lines show the text.
  const [words = ''] = message.split(/ at line | in line /)
  const missing = code === 'MISSING_CHAR' ? MISSING.find(([pattern]) => pattern.test(words)) : undefined
  return { offset: pos[0], message: missing?.[1] ?? WRONG[code] }
}

interface Wrong {
  /** Absent where it is of no single place. */
  readonly offset?: number
  readonly message: string
}

/** What is wrong with a merge key: only mappings, or a list of them, can be merged. */
function mergeFault(document: Document, { key, value }: Pair): string | undefined {
  if (!isScalar(key) || key.source !== '<<' || key.type !== 'PLAIN') return undefined
  const resolved = (node: unknown): unknown => (isAlias(node) ? node.resolve(document) : node)
  const source = resolved(value)
  const isUsable = isMap(source) || (isSeq(source) && source.items.every((item) => isMap(resolved(item))))
  return isUsable ? undefined : 'the merge key << takes a mapping or a list of mappings'
}

/** Why a document that is well-formed has no value: for the sake of its aliases. */
function aliasFault(document: Document): Wrong {
  let found: Wrong | undefined
  const stop = (node: Scalar | Alias, message: string | undefined): symbol | undefined => {
    if (message === undefined) return undefined
    found = { ...(node.range && { offset: node.range[0] }), message }
    return visit.BREAK
  }
  visit(document, {
    Alias: (_key, alias, path) => {
      const target = alias.resolve(document)
      const name = alias.source
      if (target === undefined) return stop(alias, `*${name} has no &${name} before it`)
      return stop(alias, path.includes(target) ? `&${name} contains itself` : undefined)
    },
    Pair: (_key, pair) => (isScalar(pair.key) ? stop(pair.key, mergeFault(document, pair)) : undefined),
  })
  return found ?? { message: 'its aliases (*) stand for too much: write the values out' }
}

// --- Reading --------------------------------------------------------------------------------------------

/** Whether there is more in it than comments and the marks of documents. */
function saysSomething(text: string): boolean {
  return text.split('\n').some((line) => !/^(?:---|\.\.\.)?\s*(?:#.*)?$/.test(line))
}

/** Where the first document ends, and the faults that are in it. */
function firstOf(document: Document.Parsed, source: string): { end: number; errors: readonly YAMLError[] } {
  const next = document.errors.find(({ code }) => code === 'MULTIPLE_DOCS')
  const isEnded = document.directives.docEnd
  const end = isEnded ? document.range[2] : (next?.pos[0] ?? source.length)
  // What is not closed is at fault where the next document begins, but not behind an end that is marked.
  const isInside = ([start]: readonly [number, number]): boolean => (isEnded ? start < end : start <= end)
  return { end, errors: document.errors.filter((error) => error !== next && isInside(error.pos)) }
}

/** Reads the first document. Throws ConfigError for what is no YAML, with file, line and column. */
export function readYaml(file: string, source: string): Reading {
  const lineCounter = new LineCounter()
  // Without a cause: it says the same again, to programmers.
  const fail = ({ offset, message }: Wrong): never => {
    const { line, col } = lineCounter.linePos(offset ?? 0)
    const where = offset === undefined ? '' : `line ${line}, column ${col}: `
    throw new ConfigError(`Cannot read ${file}: ${where}${message}`)
  }
  const document = parseDocument(source, { ...OPTIONS, lineCounter })
  const { end, errors } = firstOf(document, source)
  const fatal = errors.find(({ code }) => code !== 'DUPLICATE_KEY')
  if (fatal !== undefined) return fail(wrong(fatal))
  const lineOf = (offset: number): string => `line ${lineCounter.linePos(offset).line} of ${file}`
  const warnings = errors.map(({ pos }) => `${lineOf(pos[0])} repeats a field: the last one counts`)
  if (saysSomething(source.slice(end)))
    warnings.push(`${lineOf(end)} begins another document: only the first is read`)
  try {
    const value: unknown = document.toJS()
    // What contains itself has no end: here it throws.
    JSON.stringify(value)
    return { value, warnings }
  } catch {
    return fail(aliasFault(document))
  }
}
