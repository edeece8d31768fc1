/** Files of tests stay readable in one go: no file is long, but for what was recorded. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'

const LONGEST = 500

describe('the files of test', () => {
  it(`have ${LONGEST} lines at most, fixtures excepted`, () => {
    const files = readdirSync('test', { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => join(parentPath, name))
      .filter((file) => !file.startsWith('test/fixtures/'))
    const lengths = files.map((file) => [file, readFileSync(file, 'utf8').split('\n').length - 1] as const)

    expect(files).to.include('test/lengths.test.ts')
    expect(lengths.filter(([, lines]) => lines > LONGEST)).to.deep.equal([])
  })
})
