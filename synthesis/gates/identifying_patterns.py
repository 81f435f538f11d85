"""Patterns of what identifies a person, English and Chinese, after the eighteen identifiers of the HIPAA safe harbour
(45 CFR 164.514(b)(2)).

A bare number never matches, nor a year, nor an age up to 89: these stand in half of all clinical questions.
"""

import re

# ruff: noqa: E501  (a pattern a line)

MONTHS = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\.?"
)
DAY, YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:19|20)\d\d"
NAME = r"(?:[A-Z]['’])?[A-Z][a-z]+(?:['’-][A-Z][a-z]+)?"
# A name after a title is one only if it is no eponym: *Mr. Smith*, but neither *Dr. House sign* nor *Ms Word*.
TITLE = r"(?:Mr|Mrs|Ms|Miss|Dr|Prof|Professor|Doctor|Sir|Madam|Herr|Frau|Mme|Nurse)"
CHINESE_NAME = (
    r"[赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨朱秦尤许何吕张孔曹严华金魏陶姜戚谢邹喻柏窦章苏潘葛范彭郎鲁韦马苗凤方俞任袁柳鲍史唐"
    r"费廉岑薛雷贺倪汤滕罗毕郝邬安常乐于时傅皮卞齐康伍余元卜顾孟平黄和穆萧尹姚邵汪祁毛禹狄米贝明臧计伏成戴宋庞熊纪舒屈项"
    r"祝董梁杜阮蓝闵席季麻强贾路娄危江童颜郭梅盛林刁钟徐邱骆高夏蔡田樊胡凌霍虞万支柯管卢莫房裘缪干解应宗丁宣邓郁单杭洪包"
    r"诸左石崔吉龚程邢裴陆荣翁荀羊惠甄封芮储靳段焦巴弓牧山谷车侯班仰秋仲伊宫宁仇栾祖武符刘景龙叶幸司黎白蒲从索赖卓蔺屠"
    r"池乔闻党翟谭劳姬申扶冉宰雍桑桂牛寿通边燕冀浦尚农温别庄晏柴瞿阎连习艾容向古易廖庾终居衡步都耿满匡国文寇广东欧利师巩"
    r"聂晁敖冷辛饶空曾关游][\u4e00-\u9fff]{1,2}"
)

PATTERNS: dict[str, tuple[re.Pattern[str], ...]] = {
    "a date": (
        re.compile(rf"\b{YEAR}[-/.](?:0?[1-9]|1[0-2])[-/.]{DAY}\b"),
        re.compile(rf"\b{DAY}[-/.](?:0?[1-9]|1[0-2])[-/.]{YEAR}\b|\b(?:0?[1-9]|1[0-2])[-/.]{DAY}[-/.]{YEAR}\b"),
        re.compile(r"\b(?:0[1-9]|1[0-2])/(?:0[1-9]|[12]\d|3[01])/\d\d\b"),
        re.compile(rf"\b{MONTHS} {DAY}(?:st|nd|rd|th)?,? {YEAR}\b", re.IGNORECASE),
        re.compile(rf"\b{DAY}(?:st|nd|rd|th)?(?: of)?[ -]{MONTHS},?[ -]{YEAR}\b", re.IGNORECASE),
        re.compile(rf"\bon (?:{MONTHS} {DAY}(?:st|nd|rd|th)?|{DAY}(?:st|nd|rd|th)?(?: of)? {MONTHS})(?![\w-])", re.IGNORECASE),
        re.compile(r"(?:19|20)\d\d ?年 ?(?:0?[1-9]|1[0-2]) ?月(?: ?(?:0?[1-9]|[12]\d|3[01]) ?[日号])?"),
        re.compile(r"(?<!\d)(?:0?[1-9]|1[0-2]) ?月 ?(?:0?[1-9]|[12]\d|3[01]) ?[日号]"),
        re.compile(r"\b(?:DOB|date of birth|born(?: on)?|生日|出生日期)\s*[:：]?\s*\S*\d", re.IGNORECASE),
    ),
    "a name": (
        re.compile(rf"\b{TITLE}\.? (?:[A-Z]\.? )?(?P<name>{NAME})(?! (?:sign|syndrome|disease|test|law|score|classification))\b"),
        re.compile(rf"\b(?:[Pp]atient(?:'s)? name|[Nn]ame of (?:the )?patient|PATIENT NAME|[Nn]ame)\s*(?:is|[:：=])\s*(?P<name>{NAME}|[A-Z]{{2,}}\^?)"),
        re.compile(rf"\b[Pp]atient {NAME} {NAME}\b(?! (?:sign|syndrome|disease|test|score))"),
        re.compile(r"\b[A-Z]{2,}\^[A-Z]{2,}\b"),  # as DICOM burns it into a picture
        re.compile(rf"(?:患者|病人)?姓名\s*[:：是为]\s*{CHINESE_NAME}"),
        re.compile(rf"(?:患者|病人){CHINESE_NAME}(?=[,，、。 (（]|$)"),
        re.compile(rf"{CHINESE_NAME[:CHINESE_NAME.index(']') + 1]}[\u4e00-\u9fff]{{0,2}}(?:先生|女士|小姐|教授)"),
        re.compile(rf"(?:医生|医师|主任)\s*[:：]\s*{CHINESE_NAME}"),
    ),
    "a record number": (
        re.compile(
            r"\b(?:MRN|medical record (?:number|no\.?|#)|patient (?:id|number|no\.?)|(?:hospital|chart|case|accession|admission) (?:number|no\.?|#|id)"
            r"|SSN|social security (?:number|no\.?)|passport (?:number|no\.?)|insurance (?:number|no\.?|id)|NHS (?:number|no\.?))"
            r"\s*(?:is|[:：#=])?\s*(?=[A-Z0-9-]*\d)[A-Z0-9][A-Z0-9-]{3,}",
            re.IGNORECASE,
        ),
        re.compile(r"\b\d{3}-\d{2}-\d{4}\b"),
        re.compile(r"(?:病历号|住院号|门诊号|病案号|就诊卡号|检查号|登记号|身份证号?码?|医保号?卡?号?)\s*[:：是为]?\s*[A-Za-z]?\d{4,}[0-9Xx]?"),
        re.compile(r"(?<!\d)[1-9]\d{5}(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[0-9Xx](?![0-9])"),
    ),
    "a phone number": (
        re.compile(r"(?:\b(?:phone|tel(?:ephone)?|mobile|cell|fax|call|contact)\b|电话|手机)[^\n\d+]{0,12}\+?\d[\d() .-]{6,}\d", re.IGNORECASE),
        re.compile(r"(?<![\d.])\+\d{1,3}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}(?!\d)"),
        re.compile(r"(?<![\w.-])\(?\d{3}\)?[ .-]\d{3}[.-]\d{4}(?![\w-])"),
        re.compile(r"(?<!\d)1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"),
    ),
    "an e-mail or web address": (
        re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
        re.compile(r"\bhttps?://\S+", re.IGNORECASE),
        re.compile(r"\b(?:ip(?: address)?)\s*[:=]?\s*(?:\d{1,3}\.){3}\d{1,3}\b", re.IGNORECASE),
    ),
    "an address": (
        re.compile(
            rf"\b\d{{1,5}} (?:{NAME} ){{1,3}}(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Court|Ct|Place|Square|Terrace)\b\.?"
        ),
        re.compile(r"\b(?:zip|postal) ?code\s*[:=]?\s*\w{4,}", re.IGNORECASE),
        re.compile(r"\bP\.? ?O\.? Box \d+", re.IGNORECASE),
        re.compile(r"(?:住址|地址|家住)\s*[:：]?\s*[\u4e00-\u9fff]{2,}"),
        re.compile(r"[\u4e00-\u9fff]{2,}(?:市|县|区)[\u4e00-\u9fff]{1,}(?:路|街|大道|巷|弄)\d+号"),
    ),
    "an age over 89": (
        re.compile(r"(?<![\d.])(?:9\d|1[01]\d)[ -]?(?:(?:years?|yrs?)[ -]?(?:old|of age)|y/?o)\b", re.IGNORECASE),
        re.compile(r"\b(?:aged?|age of|age[:=]) ?(?:9\d|1[01]\d)\b(?![.%-])", re.IGNORECASE),
        re.compile(r"(?<!\d)(?:9\d|1[01]\d) ?(?:周?岁)"),
    ),
}  # fmt: skip
