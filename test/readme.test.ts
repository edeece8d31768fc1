/** README stays true: its rooms and its commands are those of the program. */
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
