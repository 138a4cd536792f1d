"""The sentences of the synthetic help desk: topics, each with sentence families of its own for every split.

A topic is `# name: intent`, then one family a line. `[a|b]` is a choice, `{device}` a word of `tasks.data.words`. All
of it was written for Retort; nobody ever sent it. The name of a topic is used where meanings shift in a later period.
"""

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One thing that people write about; each split says it in sentences of its own."""

    intent: str
    families: dict[str, tuple[str, ...]]
    """Split name -> its sentence families."""

    @classmethod
    def parse(cls, block: str) -> tuple[str, Self]:
        """The name and the topic of one block of the text below, without its `#`."""
        header, *lines = block.strip().splitlines()
        name, intent = header.split(": ")
        families: dict[str, tuple[str, ...]] = {}
        for line in lines:
            split, sentence = line.split(": ", maxsplit=1)
            families[split] = (*families.get(split, ()), sentence)
        return name, cls(intent=intent, families=families)


TEXT = """
# device_for_newcomer: order_device
train: [we need|please order] a {device} for {person} who starts [on Monday|next month|in {team}]
train: {person} joins {team} [soon|next week] and [has no|still lacks a] {device}, please [order one|buy one]
train: [can you|could you] [buy|order] a {device} for [the new colleague|our new hire] {person}
train: [somebody|{person}] begins in {team} [shortly|in spring]: [purchase|get] a {device} for [the first day|day one]
train: [the intern|a newcomer|a trainee] arrives and needs to [have|get] a {device}, how do I arrange that
train: [organise|procure] one {device} for {person}, [who takes up|who is about to take up] the job in {team}
train: {person} is [coming on board|about to begin] in {team}, [get|organise] a {device} for the first day
train: our new hire {person} must [be equipped with|receive] a {device} before the first week in {team}
validation: before {person} arrives there has to be a {device}, [waiting on the desk|with everything]
test: [what does it take|how do I arrange] to have a {device} waiting for [a newcomer|the intern] in {team}
test: a {device} has to be [procured|purchased] before {person} [takes up the job|arrives]
test: our trainee {person} begins [shortly|in May] and will need [her own|his own] {device}
# device_upgrade: order_device
train: I would like [to order|to have] [a second|an additional] {device} for my desk
train: please [order|buy] me a [bigger|better] {device}, {team} [pays|has the budget]
train: how can I [request|order] a new {device} [from the catalogue|for the project]
train: my boss approved spending on one more {device}, [supply it|send it] please
train: am I entitled to another {device}, the one I have is too small
train: [I want|may I get] two of them, so one extra {device} for {team}
train: [my boss|{person}] has approved [the purchase of|spending on] [another|one more] {device} for me
train: a second {device} would help me, what do I have to sign to buy it
validation: [I wish to|we want to] purchase an extra {device}, {person} has approved it
test: [may I get|am I entitled to] an extra {device}, [one is not enough|I only have the small one]
test: I [want|wish] to work with two of them, so [send|supply] one more {device}
test: is there a form to [get myself|apply for] an extra {device}
# device_broken: repair_device
train: my {device} is broken [since yesterday|since this morning], please repair it
train: the {device} [does not turn on|stays black|is defective] [any more|], can you fix it
train: I dropped my {device} and [the case is cracked|it is damaged], it needs a repair
train: [nothing happens|it makes odd noises] when I press the power button of the {device}
train: water went over my {device} and it has died, [have a look|somebody must look at it]
train: [in the middle of a call|today] the {device} gave up, [plugging it in has no effect|nothing works]
train: my {device} [has died|gave up] [on me|in the middle of a call], [someone must look at it|have a look please]
train: [keys are stuck on|the plug is loose in|there is smoke from] my {device}, can it be mended
validation: please look at the {device} of {person}, it makes a noise and [has died|is dead]
test: coffee went [over|into] the {device} and now [nothing happens|it makes odd noises]
test: [pressing the power button of|plugging in] the {device} [achieves nothing|has no effect] today
test: there is a [crack|big scratch] in my {device} and it [flickers|crackles]
# device_battery: repair_device
train: the battery of my {device} [is empty after an hour|does not charge], please replace the battery
train: my {device} gets [very hot|too hot] and [the fan is loud|shuts down]
train: the {device} [only works|stays on] when the cable is plugged in
train: the {device} barely lasts [twenty minutes|a short time] without power
train: after a night on the charger my {device} is still at zero
train: my {device} burns my hands, it gets warm after minutes
train: the {device} [barely lasts|cannot last] [a meeting|twenty minutes] [away from the socket|without power]
train: the {device} runs out of power long before lunch and feels like an oven
validation: away from the socket the {device} is flat [in a short time|within a meeting]
test: you could [fry an egg|warm your hands] on my {device}, it [burns|glows] after [minutes|a short time]
test: [however long I leave it on the charger|after a night at the charger], the {device} is [flat|at zero]
test: my {device} [overheats|runs hot] and loses its charge [by noon|quickly]
# device_handback: return_device
train: I want to return my {device} because I am leaving {team}
train: where do I [return|hand in] the {device} that I [borrowed|do not use any more]
train: please pick up the old {device} of {person}, it [is not needed|can go back]
train: {person} has retired, who can come and collect the {device}
train: I have no more use for the {device}, can I drop it off or bring it down to you
train: I am finished with the loan {device}, [you can have it again|post it to you]
train: [who takes back|where can I drop off] [a|the] {device} [that is gathering dust|I have no more use for]
train: our student has gone home and the {device} is left over, please come for it
validation: [who takes back|where can we leave] a {device} that was only gathering dust
test: {person} has [left the company|retired], so [the {device} should go to you again|come and collect the {device}]
test: I am [done with|finished with] the loan {device}, [shall I post it|do I bring it down to you]
test: my contract ends, [whom do I give|who collects] the {device}
# device_wrong: return_device
train: you sent the wrong {device}, I want to send it back
train: the {device} that I ordered does not fit, how do I return it
train: I ordered two by mistake, please take one {device} back
train: the delivered {device} is another model than I asked for, it must go back
train: a {device} arrived that nobody in {team} asked for, where do I ship it
train: there was a spare {device} in the box, I do not want to keep it, collect it
train: [this|the delivered] {device} is [not what I asked for|another model than agreed], [it must go back|come for it]
train: this is the wrong parcel, I never ordered the {device} in it, please fetch it
validation: tell me how this {device} goes back, it is not what was agreed
test: a {device} arrived that [nobody|none of us in {team}] wanted, [tell me where to ship it|have it fetched]
test: the box held [a spare|a surplus] {device}, [you can have it again|I do not want to keep it]
test: the new {device} is not the model I asked for, [take it away|collect it]
# folder_access: request_access
train: please give me access to the {folder} folder
train: I need [read access|permission] for {app} to work with {team}
train: {person} needs access to {folder}, can you [add|enable] [him|her]
train: {folder} turns me away, I cannot open it, please let me in
train: put {person} on the list of members of {folder}, we work together
train: the rest of {team} can see {folder}, I cannot and need to
train: I [get turned away|see a no entry sign] when I open {folder}, [let me in|please put me on the list]
train: I am not allowed to see {folder}, my boss says I should be
validation: make me an editor of {folder}, the audit starts soon
test: [make|have] {person} [a member|an editor] of {folder}, [we work together now|the audit starts soon]
test: [everyone else in|the rest of] {team} can see {folder}, [but I cannot|only I am left out]
test: could {person} be [added to|allowed into] {folder}
# new_role: request_access
train: I changed to {team} and need their permissions in {app}
train: please assign the {team} role in {app} to {person}
train: I have a new job in {team} and [cannot see|may not open] {folder}, please give me the rights
train: {person} stands in for {team} and must approve things in {app}, please grant that
train: from Monday I manage {team}, which requires more privileges in {app}
train: please extend my privileges in {app}, {person} has the same
train: [as of today|from Monday] {person} [covers for|stands in for] {team} and must be able to approve in {app}
train: {person} is the new head of {team}, give [him|her] what the role needs in {app}
validation: after my promotion I should be able to edit and approve in {app}
test: my [promotion|move] to {team} [means I should now|requires that I] [manage|edit] things in {app}
test: [grant|extend] {person} the same privileges in {app} [that I have|as the others in {team}]
test: since I moved to {team} I [lack|miss] the rights for {app}
# leaver: revoke_access
train: {person} left {team}, please remove [his|her] access to {folder}
train: please remove the permission of {person} for {app}
train: {person} does not work here any more and still has access to {app}
train: the contract of {person} is over, make sure that {app} is closed for [him|her]
train: {person} has resigned but can still open {folder}, please shut that
train: the project is over, {person} may no longer get into {folder}
train: [make sure|see to it that] {person} can no longer [get into|open] {folder}, [the contract is over|we parted]
train: block {person} from {folder} from now on, [he|she] went to a competitor
validation: why is {person}, who quit, still able to read {folder}, lock it
test: why can {person} still [browse|read] {folder} although [he quit|she has resigned]
test: [shut|lock] {person} out of {app}, [the project is over|it was only for a month]
test: [the consultant|{person}] is gone, [close|end] the access to {folder}
# too_many_rights: revoke_access
train: I have access to {folder} but should not, please remove it
train: too many people have access to {folder}, please take it from {team}
train: the admin role of {person} in {app} should be taken away
train: {team} is not supposed to read {folder}, please restrict it to {person}
train: {person} should be a plain user in {app}, please downgrade the role
train: I can look into {folder} though it is none of my business, stop that please
train: {team} [was never meant|is not supposed] to [see|read] {folder}, [restrict it|only {person} should]
train: nobody outside {team} should be in {folder}, throw the others out
validation: only {person} was meant to see {folder}, undo the rights of the others
test: [strip|downgrade] {person} to a plain [reader|user] in {app}
test: I [am able to|can] look into {folder}, which feels wrong, [undo that|please stop that]
test: I no longer need the rights for {app}, [you can remove|please withdraw] them
# install: install_software
train: please install {app} on my {device}
train: I need {app} on my {device} for [a project|my work with {team}]
train: how do I install {app}, I have no admin rights
train: {app} is missing on my {device}, I cannot work without it, put it on
train: everybody in {team} should get {app}, please roll it out
train: where is the download of {app}, it should run on my {device}
train: {app} is [missing from|nowhere to be found on] my {device}, [put it there|I cannot work without it]
train: a new colleague in {team} has a {device} without {app}, please set it up
validation: {app} cannot be found on the {device} of {person}, please get it there
test: [get|roll out] {app} [for all of us|for everybody] in {team}
test: [which button do I press|where is the download] so that my {device} [runs|has] {app}
test: [could you set up|I would like to use] {app} on [this|my] {device}
# update: install_software
train: please update {app} to the new version
train: my {app} is an old version, I need the latest one on my {device}
train: the installation of {app} stops with an error
train: my {app} is out of date, please upgrade it
train: the wizard aborts while it installs {app}, what now
train: the others have a newer release of {app}, bring mine up to date
train: my copy of {app} is [years behind|out of date], [bring it up to date|the others have a newer one]
train: {app} tells me to get the newer version but the setup breaks off
validation: please move {team} to the new release, their {app} is years old
test: the {app} wizard [aborts|gives up] [before it is through|at ninety percent], [finish it for me|what now]
test: [upgrade|move] {team} to the current release of {app}
test: the setup of {app} [hangs|fails] [at the end|halfway]
# uninstall: remove_software
train: please uninstall {app} from my {device}
train: I do not need {app} any more, please remove it from my {device}
train: how do I remove {app}, it was installed by mistake
train: {app} only takes up space on my {device}, please get rid of it
train: I never asked for {app}, it came with the {device} and should go
train: I have no use for {app}, make it disappear from the machines of {team}
train: I want {app} gone from my {device}, [it only takes up space|I never asked for it]
train: kick {app} off my {device}, it bothers me and I never open it
validation: please clear {app} off my {device}, I want it gone
test: [get rid of|clear away] {app} [on the machines of|for] {team}
test: {app} [came with|was already on] my {device} and I have no use for it, [off with it|make it disappear]
test: [delete|take off] {app}, nobody in {team} works with it
# unwanted_program: remove_software
train: {app} starts by itself on my {device} all the time, please remove it
train: there are two versions of {app} installed, please uninstall the old one
train: {app} makes my {device} slow, I want to uninstall it
train: {app} pops up when I log in, I do not want it, take it off
train: a leftover of {app} is still there beside the current one, wipe it
train: my {device} crawls since {app} arrived, get it off again
train: {app} [pops up|opens] every time I [log in|start the {device}], [I do not want it here|kick it out]
train: {app} shows up at every start although I never use it, make it go away
validation: an outdated {app} opens at every start, please clean that up
test: [an outdated|a leftover] {app} [sits beside|hides next to] the current one, [clean that up|wipe the leftover]
test: since {app} [is there|arrived] [everything crawls|my {device} crawls], [take it off again|reverse that]
test: after the update I have {app} twice, remove one
# forgot_password: reset_password
train: I forgot my password for {app}, please reset it
train: I need a new password for {app}
train: how do I reset the password of my {device}
train: I cannot recall the passphrase of {app}, help me to a fresh one
train: I lost the note with my password, how do I sign in to {app}
train: the login for {app} slipped my mind, I want to choose another
train: my [secret word|passphrase] for {app} has [slipped my mind|escaped me]
train: what was my {app} password again, I have to set another one
validation: no idea what my {app} password was before the holidays
test: [no idea|I cannot recall] what I typed to sign in to {app} before the holidays, [give me a fresh one|help]
test: I [lost the note|threw away the note] with my {app} login, [what now|how do I choose another]
test: I do not remember [my|the] password for {app}
# expired_password: reset_password
train: my password for {app} has expired, how do I change it
train: I want to change my password but {app} rejects the new one
train: the link to reset my password for {app} does not arrive
train: {app} wants me to renew my passphrase, I missed the deadline
train: the new password that I choose for {app} is too weak or turned down
train: the mail to choose a fresh password is not in my inbox
train: {app} says my [credentials are|passphrase is] too old and [I missed the deadline|has to be renewed]
train: my passphrase is past its date and {app} finds the next one too short
validation: my credentials for {app} are too old and must be renewed
test: [every combination|whatever] I invent as the new sign in [is too weak for|is turned down by] {app}
test: the mail for choosing a fresh {app} passphrase [never comes|is not in my inbox]
test: {app} wants a new password from me and [does not accept any|refuses all]
# locked_attempts: unlock_account
train: my account is locked after too many attempts, please unlock it
train: {app} says that my account is locked
train: please unlock the account of {person} in {app}
train: {app} has shut me out after five tries, please open it again
train: I mistyped it too often and am frozen, now I know it, please lift the lock
train: {person} is shut out of {app} after failed tries, please set the user free
train: I [mistyped|got it wrong] once too often and {app} has [shut me out|frozen me], [I know it, really|now I know it]
train: {app} blocks me for an hour because of wrong passwords, please end the block
validation: {app} suspends me since I got it wrong too often
test: {app} [bars|suspends] me for [failed tries|too many tries], [lift that please|please open it up again]
test: {person} [is frozen|has been shut] out of {app} for typing too fast, [free the user|set the user free]
test: I typed it wrong three times and {app} [locked|blocked] me
# disabled_account: unlock_account
train: my account was deactivated while I was on leave, please activate it
train: my user is disabled in {app}, please enable it again
train: after the holidays {app} says that the account is inactive
train: I have returned to work after a long time and my profile in {app} is greyed out
train: {app} put my user to sleep during parental leave, switch it on again
train: {person} was ill for months and the account is dormant, please wake it up
train: I have been [away|ill] for [months|a long time] and {app} now treats me as [a stranger|nobody], wake my user up
train: nobody used this profile for months, so {app} closed it, but I am back now
validation: my user was away on a sabbatical and is inactive, please switch it on
test: {app} put {person} [to sleep|on ice] during [parental leave|the sabbatical], [bring the user back|reverse that]
test: my profile in {app} is [dormant|greyed out], [switch it on again|I have returned to work]
test: I am back from leave and my user in {app} is inactive
# suspicious_mail: report_phishing
train: I got a suspicious mail about {app}, I did not click anything
train: this mail looks like phishing, it asks for my password
train: I want to report a fake mail from {person} with a strange link
train: somebody claims to be {person} and asks for gift cards, nobody replied
train: a dubious invoice landed in my inbox, I left it unopened
train: have a look at this fishy attachment, I have not touched it
train: somebody [pretends|claims] to be {person} and asks [me|{team}] for gift cards, [I ignored it|I did not reply]
train: I think that the invoice from {person} is a fraud, I only looked at it
validation: a sender pretends to be {app} and asks for sign in data, I ignored it
test: a [dubious|fishy] invoice [came|landed] in my inbox, I left the attachment alone, [you should know|have a look]
test: for your information, a sender [posing as|dressed up as] {app} wants our sign in data, nobody fell for it
test: is this message from {person} real, it [wants money|asks for a login], I have not answered
# scam_wave: report_phishing
train: several people in {team} got the same phishing mail, please block the sender
train: please check this link about my account, I have not opened it
train: a caller said he was from support and wanted my password, I did not give it
train: forged messages about {app} are going round in {team}, please filter them
train: a man on the phone asked to control my {device}, I said no and hung up
train: {team} sees a bogus prize notice, all of us deleted it
train: a man on the phone [claimed to be|said he was] from your desk and wanted to steer my {device}, I hung up
train: many of us in {team} were called by a swindler today, we told him nothing
validation: please warn the others about a fake call that pretends to come from your desk
test: half of {team} [sees|has] the same bogus prize notice [this morning|today], [all deleted it|no harm done yet]
test: [warn the others|please filter them]: forged messages about {app} are [going round|doing the rounds]
test: all of {team} received a fake parcel notice, [deleted unread|no one opened it]
# clicked: account_hacked
train: I clicked on the link in a phishing mail and entered my password
train: my account was hacked, mails are sent in my name
train: I opened a strange attachment and now my {device} behaves oddly
train: I was taken in by a forged page and handed over my {app} details
train: I let a caller control my {device} and he installed something
train: I fell for a bogus message and answered it, now my data is out
train: I [fell for|was taken in by] a forged {app} page and [typed in everything|handed over my details]
train: I believed a swindler and gave him my password for {app}
validation: they tricked me, I typed in everything on a fake {app} page
test: [stupidly|sadly] I let a caller [onto|take over] my {device}, [he copied files|he installed something]
test: [I have been tricked|they got me]: I [confirmed|answered] the bogus message and [now worry|my data is out]
test: I fear I [gave|told] my password to a [fake page|scammer]
# strange_login: account_hacked
train: somebody else logged in to my account in {app}
train: {app} shows a login from another country that was not me
train: I did not change my password but {app} says that it was changed
train: customers get odd messages from my address that I did not write
train: an intruder has taken over my {app} profile and my settings are different
train: {app} lists a session in a city where I was not
train: [contacts|customers] get [odd|rude] messages from my address that I never wrote
train: a stranger reads my mail and changes things in {app}
validation: things move by themselves in my {app}, somebody is using it in my name
test: an intruder [is using|has taken over] my {app} profile, [things move by themselves|my settings are different]
test: {app} [lists|reports] a session in [a city|a country] where I have never been, [while I slept|on my name]
test: there are logins in {app} at night that were not mine
# deleted_file: restore_file
train: I deleted {file} by mistake, please restore it
train: {file} disappeared from {folder}, can you recover it
train: please restore {file} from the backup of yesterday
train: {file} has gone missing, is there a copy that I can get back
train: I emptied the bin and {file} was in it, can you rescue it
train: what happened to {file}, it existed on Friday, look in the backup
train: {file} has [vanished|gone missing] from {folder}, [is there a copy|I need it back]
train: {file} is lost, I must have thrown it out, please look for a copy
validation: {file} vanished, without thinking I threw it away, bring it back please
test: [in a hurry|without thinking] I emptied the bin with {file} in it, [rescue it|can it be saved]
test: where has {file} gone, it [was still there|existed] on Friday, [bring it back|look in the backup]
test: {person} removed {file} from {folder} by accident, [we need it|get it back]
# overwritten: restore_file
train: somebody overwrote {file}, I need the old version
train: I saved the wrong changes in {file}, please bring back the version of last week
train: {file} cannot be opened, it is corrupt, please recover it
train: I messed up {file}, is an earlier state kept, please roll it back
train: {file} shows odd symbols, please fetch an intact version
train: {person} saved over {file}, undo the edits of three days
train: {person} [saved over|wrote across] {file}, [roll it back|turn the clock back] to [Tuesday|the weekend]
train: the contents of {file} are spoilt, give me the state before the weekend
validation: my edits ruined {file}, I need what it held on Tuesday
test: {file} now only has [garbage|odd symbols] in it, [fetch an intact one|what it held mattered]
test: [my edits ruined|I messed up] {file}, [undo three days|is an earlier state kept somewhere]
test: {file} was [replaced|saved over], can we have the previous version
# erase_private: erase_file
train: please delete {file} for ever, also from the backup
train: {file} contains private data and must be deleted from {folder}
train: I cannot delete {file} in {folder}, please delete it
train: please wipe {file} everywhere, no copy may remain in the archive
train: for privacy {file} must be destroyed, the customer insists
train: {file} should never have been in {folder}, see that nothing is left
train: [wipe|shred] {file}, [no copy may remain|the customer insists], [not even in the archive|everywhere]
train: there must be no trace left of {file}, a customer wants it gone
validation: the law says that {file} may not be stored, also not old versions
test: {file} should [never have been|not be] in {folder}, [destroy it|make it unrecoverable]
test: [by law|for privacy] {file} [has to go|may not be stored], [see that nothing is left|including old versions]
test: {file} must not [exist|be kept] any longer, [remove it from|delete it in] {folder}
# free_space: erase_file
train: {folder} is full, please delete the old files of {team}
train: please delete all files of {person} in {folder}, they are not needed
train: the retention period of {file} is over, please delete it
train: please clear out {folder}, all that {person} left is obsolete
train: {folder} is out of room, throw out everything before last year
train: {file} need not be kept after ten years, dispose of it
train: [clear out|purge] what {person} left in {folder}, [we are out of room|it is all obsolete]
train: the disk of {folder} has no room left, get rid of what {team} does not use
validation: purge the old things of {team} in {folder}, it is clogged
test: ten years have passed, {file} [can be disposed of|need not be kept], [out with it|do it now]
test: {folder} is [bursting|clogged], [throw out|discard] everything [before last year|from {team}]
test: we do not need {file} or the [rest|drafts] in {folder}, delete them
# ticket_news: ticket_status
train: what is the status of my ticket about the {device}
train: is there any news about my request for {app}
train: I opened a ticket last week for access to {folder} and got no answer
train: I wrote to you days ago about {app}, has anyone looked at my case
train: I am still waiting for an answer on the {device}, any progress
train: how far is my inquiry about {folder}, was it forgotten
train: [how far are you|where do we stand] with my [inquiry|case] about the {device}
train: I reported the {device} to you a while ago and never heard back
validation: I hear nothing from you about the {device}, where do we stand
test: [days ago|a while ago] I wrote to you because of {app}, [has anyone read it|silence since then]
test: [I am still waiting to hear from you|still nothing from you] on {folder}, [any progress|was it forgotten]
test: did anybody [look at|read] my ticket on {app}
# ticket_when: ticket_status
train: when will my ticket about {app} be solved
train: who works on my ticket for the {device}
train: my ticket for the new {device} was closed but nothing happened
train: you promised that the matter with the {device} would be done by now
train: who has picked up my case about {app}, whom do I call
train: can I expect an answer this week about {folder}
train: [can I expect|will there be] an answer on {app} [this week|before my trip], [I asked long ago|you have my note]
train: tell me the day on which my request for {app} will be done and by whom
validation: what is the delay with the {app} matter, I sent it in long ago
test: you [promised|announced] that the {device} matter would be handled by [now|Monday], [what is the delay|well]
test: [which of you|whom do I call who] [has picked up|handles] the {app} matter I [sent in|wrote in about]
test: how long does my ticket about {folder} still take
"""

TOPICS = dict(Topic.parse(block) for block in TEXT.split("#")[1:])
"""Topic name -> topic; two an intent."""
