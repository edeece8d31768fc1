/** The unit of systemd: what systemd says of it, and what the documentation relies on. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parseCommandLine } from '../../src/command-line.ts'
import { unitCommand } from '../support/deploy.ts'

const UNIT = readFileSync('deploy/systemd/kube-ipvs.service', 'utf8')

/** What `systemd-analyze verify` says of a unit, whose program it wants to find. */
function complaints(unit: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-unit-'))
  const file = join(folder, 'kube-ipvs.service')
  writeFileSync(file, unit.replaceAll(unitCommand()[0]!, process.execPath))
  const { error, stderr } = spawnSync('systemd-analyze', ['verify', '--man=no', file], { encoding: 'utf8' })
  rmSync(folder, { recursive: true })
  if (error !== undefined) throw new Error('Cannot run systemd-analyze: install systemd', { cause: error })
  return stderr
}

describe('the unit of systemd', () => {
  it('is one that systemd takes', () => {
    expect(complaints(UNIT)).to.equal('')
  })

  for (const [fault, unit] of [
    ['an unknown directive', UNIT.replace('ExecReload=', 'ExecReread=')],
    ['a value that is none', UNIT.replace('Restart=always', 'Restart=often')],
    ['a program that is not there', UNIT.replaceAll(unitCommand()[0]!, '/nowhere/kube-ipvs')],
  ] as const) {
    it(`would be refused with ${fault}`, () => {
      expect(complaints(unit)).not.to.equal('')
    })
  }

  it('starts the program with the configuration without which it is not started', () => {
    const [, config] = /^ConditionPathExists=(.+)$/m.exec(UNIT)!
    const { action, configFile } = parseCommandLine(['node', ...unitCommand()])
    expect({ action, configFile }).to.deep.equal({ action: 'run', configFile: config })
  })

  it('makes a reload a SIGHUP', () => {
    expect(UNIT).to.match(/^ExecReload=\/bin\/kill -HUP \$MAINPID$/m)
  })
})
