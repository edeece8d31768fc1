import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { loadAddon } from '../../src/netlink/socket.ts'

/** Resident pages of files, in kB (proc(5)). */
const residentFiles = (): number =>
  Number(/^RssFile:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1])

describe('releaseProgramPages', () => {
  it('gives most of the pages of files back, and the program goes on', () => {
    const digest = (): string => createHash('sha512').update('kube-ipvs').digest('hex')
    const [before, expected] = [residentFiles(), digest()]
    loadAddon().releaseProgramPages()
    expect(residentFiles()).to.be.below(before / 2)
    expect(digest()).to.equal(expected)
  })

  it('leaves code alone that Node has moved to memory of its own', () => {
    const program = `
      const addon = require('node-gyp-build')('native')
      addon.releaseProgramPages()
      console.log(require('node:crypto').createHash('sha1').update('kube-ipvs').digest('hex'))`
    const output = execFileSync(process.execPath, ['--use-largepages=silent', '-e', program], {
      encoding: 'utf8',
    })
    expect(output.trim()).to.equal(createHash('sha1').update('kube-ipvs').digest('hex'))
  })
})
