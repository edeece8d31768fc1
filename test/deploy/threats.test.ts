/** docs/threats.md stays true: for each actor there is a test that is there, and its links lead somewhere. */
import { existsSync, readFileSync } from 'node:fs'
import { expect } from 'chai'
import { Metrics } from '../../src/serve/metrics.ts'

const TEXT = readFileSync('docs/threats.md', 'utf8')
const sections = TEXT.split(/^## /m)
  .slice(1)
  .map((text) => ({ actor: text.split('\n')[0]!, text }))

describe('docs/threats.md', () => {
  it('has all who can do something', () => {
    expect(sections.map(({ actor }) => actor)).to.have.length(7)
  })

  for (const { actor, text } of sections) {
    it(`${actor}: has tests, which are there`, () => {
      const named = [...text.slice(text.indexOf('\nTests:')).matchAll(/`(test\/[\w./-]+)`(?:\s+"([^"]+)")?/g)]
      expect(named).not.to.be.empty
      for (const [, file, title] of named) {
        expect(existsSync(file!), file).to.equal(true)
        if (title !== undefined) expect(readFileSync(file!, 'utf8'), `${file!}: ${title}`).to.contain(title)
      }
    })
  }

  it('names metrics, and parts of other pages, that there are', () => {
    const metrics = new Metrics({ defaults: false }).registry.getMetricsAsArray().map(({ name }) => name)
    const names = [...TEXT.matchAll(/`(kube_ipvs_\w+)`/g)].map((match) => match[1]!)
    expect(names).not.to.be.empty
    expect(metrics).to.include.members(names)
    for (const [, page, anchor] of TEXT.matchAll(/\]\(([\w-]+\.md)#([\w-]+)\)/g)) {
      const headings = [...readFileSync(`docs/${page!}`, 'utf8').matchAll(/^#+ (.*)$/gm)].map(([, title]) =>
        title!
          .toLowerCase()
          .replaceAll(/[^\w -]/g, '')
          .replaceAll(' ', '-'),
      )
      expect(headings, page).to.include(anchor)
    }
  })
})
