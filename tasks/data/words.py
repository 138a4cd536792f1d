"""The words, greetings and side remarks of the synthetic help desk."""

DISTRACTORS = {
    "train": (
        "the {device} itself works fine.",
        "I already reset my password yesterday.",
        "my account is not locked.",
        "{person} returned the old {device} last week.",
        "{app} is installed and runs.",
        "this is not about the new {device} that I ordered.",
        "the last ticket about phishing is closed.",
        "I did not delete {file}.",
        "I do have access to {folder}.",
        "{person} uninstalled {app} in March.",
        "the backup of {file} was restored.",
        "no need to repair the {device}.",
        "I know the password.",
        "{person} asked for permission for {folder} already.",
    ),
    "validation": (
        "nothing is wrong with my password.",
        "the repair of the {device} went well.",
        "{file} is still there.",
        "my own access to {folder} is fine.",
    ),
    "test": (
        "don't worry about the password reset, that one is solved.",
        "I am not ordering a {device}.",
        "unlike {person}, I did not delete anything.",
        "last month you installed {app} for me, thanks for that.",
        "the phishing report from Tuesday was somebody else's.",
        "we returned the broken {device} in spring.",
        "my account isn't hacked, before you ask.",
        "{person} got access to {folder} without trouble.",
        "it has nothing to do with the ticket about uninstalling {app}.",
        "the repair was paid by {team}.",
        "restoring {file} worked, that is finished.",
        "I can unlock my {device} with my finger as ever.",
    ),
}
OPENERS = {
    "train": ("hello,", "hi team,", "good morning,", "dear help desk,"),
    "validation": ("hi there,", "hello all,"),
    "test": ("hey,", "good afternoon,", "quick one:", "dear colleagues,"),
}
CLOSERS = {
    "train": ("thanks", "thank you very much", "it is urgent", "kind regards"),
    "validation": ("many thanks", "no hurry"),
    "test": ("cheers", "much appreciated", "whenever you can", "I have a deadline"),
}
WORDS = {
    "device": ("laptop", "monitor", "headset", "phone", "docking station", "tablet", "keyboard"),
    "app": ("Outlook", "Excel", "Photoshop", "Teams", "SAP", "Zoom", "Acrobat", "the VPN client"),
    "folder": (
        "the finance folder",
        "the sales share",
        "the payroll drive",
        "the contracts folder",
        "the design share",
    ),
    "file": ("the budget sheet", "the contract draft", "the customer list", "my thesis", "the meeting notes"),
    "team": ("finance", "sales", "marketing", "the lab", "legal", "human resources"),
    "person": ("Maria", "Tom", "Mrs Okafor", "my colleague", "Mr Lindqvist", "Aisha", "the student", "Dimitri"),
}
TEST_WORDS = {
    "device": ("notebook", "screen", "earphones", "handset", "webcam"),
    "app": ("PowerPoint", "Slack", "Word", "Matlab"),
    "folder": ("the invoices directory", "the board archive", "the patents store"),
    "file": ("the price table", "the slide deck", "the signed offer"),
    "team": ("logistics", "procurement", "the warehouse"),
    "person": ("Yuki", "Mr Haddad", "Petra", "our intern"),
}
"""Words that training never shows."""
