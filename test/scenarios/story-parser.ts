/**
 * Reads files of stories. The format:
 *
 *   # The first line says what the file is about. Lines that begin with # are comments, here and everywhere.
 *
 *   story: a title, which is the test's title, too
 *
 *   a sentence begins at the margin: a step, or what must be after it
 *     what belongs to it stands below, two spaces in
 *
 * A range in such a line stands for many lines: `service s{0..2} 10.96.0.{4..6} TCP 80` is three Services. Ranges of one
 * line go side by side; a shorter one begins again. The last part of an address carries over: 10.96.0.256 is 10.96.1.0.
 * Which sentences there are is said in story-steps.ts and story-expectations.ts, short words for objects in
 * story-objects.ts.
 */

export interface Line {
  readonly number: number
  readonly text: string
}

/** A step or an expectation. */
export interface Sentence extends Line {
  readonly body: readonly Line[]
}

export interface StoryText {
  readonly file: string
  readonly title: string
  readonly sentences: readonly Sentence[]
}

/** What is wrong in a file of stories, or with what it tells: `file:line: message`. Where in the runner, says the cause. */
export class StoryError extends Error {
  override readonly name = 'StoryError'

  constructor(file: string, line: number, message: string, cause?: unknown) {
    super(`${file}:${line}: ${message}`, cause === undefined ? {} : { cause })
    this.stack = this.message
  }
}

const TITLE = 'story: '
const INDENT = '  '
const RANGE = /\{(\d+)\.\.(\d+)\}/g
const LONG_ADDRESS = /\b(\d+\.\d+)\.(\d+)\.(\d{3,})\b/g

/** `08` to `10` is 08, 09, 10: as wide as it is written. Backwards, too. */
function rangeOf(from: string, to: string): string[] {
  const isPadded = [from, to].some((text) => text.length > 1 && text.startsWith('0'))
  const width = isPadded ? Math.max(from.length, to.length) : 0
  const [first, last] = [Number(from), Number(to)]
  const step = first <= last ? 1 : -1
  return Array.from({ length: Math.abs(last - first) + 1 }, (_, i) =>
    String(first + i * step).padStart(width, '0'),
  )
}

function carryOver(text: string): string {
  return text.replace(
    LONG_ADDRESS,
    (_, network: string, third: string, fourth: string) =>
      `${network}.${Number(third) + (Number(fourth) >> 8)}.${Number(fourth) & 255}`,
  )
}

/** The lines that a line with ranges stands for. */
export function expandRanges(text: string): string[] {
  const ranges = [...text.matchAll(RANGE)].map(([, from, to]) => rangeOf(from!, to!))
  if (ranges.length === 0) return [text]
  const count = Math.max(...ranges.map(({ length }) => length))
  return Array.from({ length: count }, (_, i) => {
    const values = ranges.map((range) => range[i % range.length]!).values()
    return carryOver(text.replace(RANGE, () => values.next().value!))
  })
}

interface Draft {
  readonly file: string
  readonly title: string
  readonly sentences: { readonly number: number; readonly text: string; readonly body: Line[] }[]
}

class Parser {
  readonly #file: string
  readonly #stories: Draft[] = []

  constructor(file: string) {
    this.#file = file
  }

  read(text: string): Draft[] {
    const lines = text.split('\n').map((line, i) => ({ number: i + 1, text: line.trimEnd() }))
    for (const line of lines) if (line.text !== '' && !line.text.trimStart().startsWith('#')) this.#take(line)
    if (this.#stories.length === 0) this.#fail(1, 'there is no story')
    for (const { title, sentences } of this.#stories)
      if (sentences.length === 0) this.#fail(lines.length, `"${title}" is empty`)
    return this.#stories
  }

  #take({ number, text }: Line): void {
    const story = this.#stories.at(-1)
    if (text.startsWith(TITLE)) this.#begin(number, text.slice(TITLE.length))
    else if (story === undefined) this.#fail(number, `"${text}" stands before the first story`)
    else if (!text.startsWith(' ')) story.sentences.push({ number, text, body: [] })
    else this.#addToBody(story, number, text)
  }

  #begin(number: number, title: string): void {
    if (this.#stories.some((other) => other.title === title)) this.#fail(number, `"${title}" is there twice`)
    this.#stories.push({ file: this.#file, title, sentences: [] })
  }

  #addToBody({ sentences }: Draft, number: number, text: string): void {
    const sentence = sentences.at(-1)
    if (sentence === undefined) this.#fail(number, `"${text}" belongs to nothing`)
    if (!text.startsWith(INDENT))
      this.#fail(number, `"${text}" stands neither at the margin nor two spaces in`)
    for (const one of expandRanges(text.slice(INDENT.length))) sentence.body.push({ number, text: one })
  }

  #fail(line: number, message: string): never {
    throw new StoryError(this.#file, line, message)
  }
}

/** All stories of a file. Throws a StoryError for what has no place in one. */
export function parseStories(file: string, text: string): StoryText[] {
  return new Parser(file).read(text)
}

/** What a file of stories is about: its first line. */
export function subjectOf(file: string, text: string): string {
  const first = text.split('\n')[0]!
  if (!first.startsWith('# '))
    throw new StoryError(file, 1, 'the first line says what the stories are about: "# ..."')
  return first.slice(2)
}
