/** README and docs stay true and readable: rooms and commands are those of the program, lines fit a screen. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect } from 'chai'

const README = readFileSync('README.md', 'utf8')
const scripts = (JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> })
  .scripts

describe('README', () => {
  it('names every room of src and every folder beside it, and no other', () => {
    const named = [...README.matchAll(/^\| `((?:src\/)?[\w-]+)\/` +\|/gm)].map((match) => match[1]!)
    const rooms = readdirSync('src', { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => `src/${name}`)

    expect(named.sort()).to.deep.equal([...rooms, 'deploy', 'docs', 'native', 'scripts', 'test'].sort())
  })

  it('names every file of the hall', () => {
    const row = /^\| `src\/main\.ts`(.*?)\|/m.exec(README)![0]
    const named = [...row.matchAll(/`(?:src\/)?([\w-]+\.ts)`/g)].map((match) => match[1]!)

    expect(named.sort()).to.deep.equal(
      readdirSync('src')
        .filter((name) => name.endsWith('.ts'))
        .sort(),
    )
  })

  it('names only commands and files that exist', () => {
    for (const match of README.matchAll(/npm run ([\w:]+)/g)) expect(scripts).to.have.property(match[1]!)
    for (const match of README.matchAll(/`?(scripts\/[\w.-]+)`?/g))
      expect(existsSync(match[1]!), match[1]).to.equal(true)
  })
})

/** So that a page can be read as it is, in any editor. */
const WIDEST = 120
/** Nothing but one word, such as a URL, which cannot be broken: this may be wider. */
const ONE_WORD = /^\s*(?:[-*] )?\S+$/

describe('source lines of README and docs', () => {
  const pages = ['README.md', ...readdirSync('docs').map((name) => `docs/${name}`)]
  for (const page of pages.filter((name) => name.endsWith('.md'))) {
    it(`${page}: none is wider than ${WIDEST} characters`, () => {
      const wide = readFileSync(page, 'utf8')
        .split('\n')
        .map((text, i) => ({ line: i + 1, text }))
        .filter(({ text }) => text.length > WIDEST && !ONE_WORD.test(text))

      expect(wide).to.deep.equal([])
    })
  }

  it('docs/performance.md is read in one go: less than 120 lines', () => {
    expect(readFileSync('docs/performance.md', 'utf8').split('\n').length - 1).to.be.below(120)
  })
})
