/** The project's papers stay true: links lead somewhere, what they name is there, and versions are those that are used. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'chai'
import { COMMANDS } from '../../src/commands/commands.ts'
import { manifestsOf } from '../support/deploy.ts'

const markdownIn = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.md'))
    .map((name) => join(folder, name))
const PAPERS = markdownIn('.github')
const read = (file: string): string => readFileSync(file, 'utf8')

/** What a forge makes of headings. */
const anchorsOf = (file: string): string[] =>
  [...read(file).matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
    title!
      .toLowerCase()
      .replaceAll(/[^\w -]/g, '')
      .replaceAll(' ', '-'),
  )

/** Links that lead nowhere. */
const brokenLinks = (file: string, text: string): string[] =>
  [...text.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)].flatMap(([link, path, anchor]) => {
    const target = path === '' ? file : join(dirname(file), path!)
    if (!existsSync(target)) return [link]
    return anchor === undefined || anchorsOf(target).includes(anchor) ? [] : [link]
  })

describe('links of README, docs and papers', () => {
  for (const file of ['README.md', ...markdownIn('docs'), ...PAPERS])
    it(`${file}: lead somewhere`, () => {
      expect(brokenLinks(file, read(file))).to.deep.equal([])
    })

  it('are looked at', () => {
    expect(
      brokenLinks('docs/x.md', '[a](gone.md) [b](runbook.md#gone) [c](runbook.md#kubeipvsdown)'),
    ).to.have.length(2)
  })
})

describe('the papers', () => {
  it('have no line wider than 120 characters', () => {
    for (const file of PAPERS)
      expect(
        read(file)
          .split('\n')
          .filter((line) => line.length > 120),
        file,
      ).to.deep.equal([])
  })

  it('name files and scripts that there are', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
    for (const file of [...PAPERS, 'docs/CHANGELOG.md']) {
      for (const [path] of read(file).matchAll(/\b(?:src|test|scripts|deploy|docs)\/[\w./-]*\w/g))
        expect(existsSync(path), `${file}: ${path}`).to.equal(true)
      for (const [, name] of read(file).matchAll(/npm run ([\w:]+)/g))
        expect(scripts, file).to.have.property(name!)
    }
  })
})

describe('.github/SECURITY.md', () => {
  const text = read('.github/SECURITY.md')

  it('names each API that the program may ask, with its version', () => {
    const role = manifestsOf('deploy/base/rbac.yaml').find(
      ({ kind }) => kind === 'ClusterRole',
    ) as unknown as {
      rules: { apiGroups: string[] }[]
    }
    const groups = new Set(role.rules.flatMap(({ apiGroups }) => apiGroups))
    const named = [...text.matchAll(/^\| `(?:([\w.]+)\/)?v1`/gm)].map(([, group]) => group ?? '')
    expect(named).to.have.members([...groups])
    const sources = ['src/source/api-source.ts', 'src/source/events.ts'].map(read).join('')
    for (const group of named) expect(sources).to.contain(group === '' ? "'/api/v1/" : `/apis/${group}/v1/`)
  })
})

describe('docs/CHANGELOG.md', () => {
  const entries = read('docs/CHANGELOG.md').split(/^## /m).slice(1)

  it('says of each version what changes in the kernel', () => {
    expect(entries).not.to.be.empty
    for (const entry of entries.filter((text) => text.trim() !== '[Unreleased]'))
      expect(entry, entry.split('\n')[0]).to.match(/^In the kernel: /m)
  })

  it('names commands that there are', () => {
    const line = /^- Commands: ([^;]*);/m.exec(entries.join('\n'))![1]!
    const named = [...line.matchAll(/`(\w+)`/g)].map(([, name]) => name)
    const names = COMMANDS.filter(({ flag }) => flag === undefined).map(({ name }) => name)
    expect(named).to.have.members(names)
  })
})
